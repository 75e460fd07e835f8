/** What the service wrote into a room. `docs/reference/rooms.md` has its shape. */
import { AUDIO_SETTINGS, type LiveKitRoomConfig, type SessionType, settingsOf } from "./config.js";
import { isObject } from "../problems.js";

const METADATA_CHARS_MAX = 65_536;
const TYPES: readonly unknown[] = ["text", "voice-ptt", "voice-vad", null];
const DETECTIONS: readonly unknown[] = ["server", "client", "none"];

/**
 * A room's metadata, null where it is not the service's: none yet, another program's, no JSON. Members that are not as
 * they should be are as the type says; members that are not known are passed over.
 */
export function readRoomMetadata(text: string | undefined): LiveKitRoomConfig | null {
    if (text === undefined || text === "" || text.length > METADATA_CHARS_MAX) return null;
    let said: unknown;
    try {
        said = JSON.parse(text);
    } catch {
        return null;
    }
    if (!isObject(said) || typeof said["sessionId"] !== "string" || !TYPES.includes(said["sessionType"])) return null;
    const sessionType = said["sessionType"] as SessionType;
    const { turnDetection, voiceActivityEnabled } = settingsOf(sessionType);
    const audio = isObject(said["audioSettings"]) ? said["audioSettings"] : {};
    return {
        sessionId: said["sessionId"],
        sessionType,
        turnDetection: DETECTIONS.includes(said["turnDetection"])
            ? (said["turnDetection"] as LiveKitRoomConfig["turnDetection"])
            : turnDetection,
        voiceActivityEnabled: flag(said["voiceActivityEnabled"], voiceActivityEnabled),
        adaptiveStream: flag(said["adaptiveStream"], true),
        dynacast: flag(said["dynacast"], true),
        audioSettings: {
            echoCancellation: flag(audio["echoCancellation"], AUDIO_SETTINGS.echoCancellation),
            noiseSuppression: flag(audio["noiseSuppression"], AUDIO_SETTINGS.noiseSuppression),
            autoGainControl: flag(audio["autoGainControl"], AUDIO_SETTINGS.autoGainControl),
        },
    };
}

function flag(value: unknown, otherwise: boolean): boolean {
    return typeof value === "boolean" ? value : otherwise;
}
