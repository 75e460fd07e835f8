/** What the service sends into a room about it. `docs/reference/rooms.md` has its shape. */
import type { SessionConfig, SessionSyncEvent, SessionSyncEventType } from "./config.js";
import { isObject } from "../problems.js";

const TOPIC = "sessionmanager.sync";
const BYTES_MAX = 65_536;
const TYPES: readonly unknown[] = [
    "session_state_sync",
    "room_state_change",
    "connection_interruption",
    "session_inconsistency",
] satisfies SessionSyncEventType[];

/** An event of the service's own, before the front end adds its state. */
export interface ServiceEvent {
    type: SessionSyncEventType;
    payload: Omit<SessionSyncEvent["payload"], "frontendState">;
    inconsistencies: string[];
    critical: boolean;
}

/** The arguments of a room's `dataReceived`; null where it is not the service that speaks: another participant has sent
 * it, it has another topic, or is no such event. */
export function readServiceEvent(args: readonly unknown[]): ServiceEvent | null {
    const [bytes, participant, , topic] = args;
    if (topic !== TOPIC || participant !== undefined) return null;
    if (!ArrayBuffer.isView(bytes) || bytes.byteLength > BYTES_MAX) return null;
    let said: unknown;
    try {
        said = JSON.parse(new TextDecoder().decode(bytes));
    } catch {
        return null;
    }
    if (!isObject(said) || !TYPES.includes(said["type"]) || !isObject(said["payload"])) return null;
    const { sessionId, trigger, timestamp, roomState, inconsistencies, critical } = said["payload"];
    if (typeof sessionId !== "string" || typeof trigger !== "string" || typeof timestamp !== "number") return null;
    return {
        type: said["type"] as SessionSyncEventType,
        payload: { sessionId, trigger, timestamp, ...(isObject(roomState) ? { roomState: stateOf(roomState) } : {}) },
        inconsistencies: Array.isArray(inconsistencies) ? inconsistencies.map(String) : [],
        critical: critical === true,
    };
}

/** Instants are milliseconds there and dates here; what has no voice has no voice mode here. */
function stateOf(said: Record<string, unknown>): Partial<SessionConfig> {
    const { lastSyncAt, voiceMode, ...rest } = said;
    return {
        ...(rest as Partial<SessionConfig>),
        ...(typeof lastSyncAt === "number" ? { lastSyncAt: new Date(lastSyncAt) } : {}),
        ...(typeof voiceMode === "string" ? { voiceMode: voiceMode as NonNullable<SessionConfig["voiceMode"]> } : {}),
    };
}
