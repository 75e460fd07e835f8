/**
 * A front end's session and its LiveKit room, kept in agreement, both ways: the room follows what is set here (the
 * microphone at once, the service where it is told), and what is said here follows the room (its connection, its name,
 * its metadata, a microphone that was closed elsewhere).
 */
import {
    type LiveKitRoomConfig,
    type SessionConfig,
    type SessionSyncEvent,
    type SessionSyncEventType,
    type SessionValidationResult,
    roomConfigOf,
    settingsOf,
    typed,
    wantsMicrophone,
} from "./config.js";
import { readRoomMetadata } from "./metadata.js";
import { Microphone, type Sound } from "./microphone.js";
import { readServiceEvent } from "./service-events.js";
import type { RoomEventName, RoomLike } from "./room.js";
import { type Seen, corrected, stateBy, validate } from "./validation.js";
import { letEnd } from "../retry.js";

/** Something that the user should be told. */
export interface SessionSyncAlert {
    kind: "disconnected" | "microphone" | "inconsistency" | "refused";
    /** For people. */
    message: string;
    error?: unknown;
}

export interface SessionSyncOptions {
    /** The session whose room it is to be; left out, it is whatever the room's metadata says. */
    sessionId?: string;
    /** Tells the service of a type that was set here; `tellService` makes one. Left out, the service's word stands. */
    tell?: (config: LiveKitRoomConfig) => Promise<void>;
    /** Called for what needs the user: the room is gone, the microphone cannot be opened. */
    onAlert?: (alert: SessionSyncAlert) => void;
    /** Until the first sync after a configuration or a connection. */
    firstSyncMs?: number;
    /** Between two validations. */
    validationMs?: number;
}

export const FIRST_SYNC_MS = 1_000;
export const VALIDATION_MS = 5_000;
/** A type that the service was told of must stand in the room's metadata within so long, or the room's stands. */
export const TOLD_MS = 10_000;

/** Works from `setSessionConfig` to `close`, whatever becomes of the room meanwhile. Nothing of it keeps Node alive. */
export class SessionSync {
    private session: Readonly<SessionConfig> | null = null;
    private enabled = true;
    private callback: ((event: SessionSyncEvent) => void) | undefined;
    private readonly watching = new Set<() => void>();
    private first: ReturnType<typeof setTimeout> | undefined;
    private monitor: ReturnType<typeof setInterval> | undefined;
    private told: { type: SessionConfig["type"]; until: number } | undefined;
    private said = "";
    private readonly microphone: Microphone;
    private readonly listeners: [RoomEventName, (...args: unknown[]) => void][];

    constructor(
        readonly room: RoomLike,
        private readonly options: SessionSyncOptions = {},
    ) {
        this.microphone = new Microphone(room.localParticipant, (sound, error) => this.microphoneFailed(sound, error));
        this.listeners = [
            ["connected", () => this.connected()],
            ["reconnecting", () => this.interrupted("reconnecting")],
            ["signalReconnecting", () => this.interrupted("signalReconnecting")],
            ["reconnected", () => this.reconnected()],
            ["disconnected", () => this.disconnected()],
            ["moved", () => this.changed("moved")],
            ["roomMetadataChanged", () => this.changed("metadata")],
            ["trackMuted", () => this.followMicrophone()],
            ["trackUnmuted", () => this.followMicrophone()],
            ["localTrackPublished", () => this.followMicrophone()],
            ["localTrackUnpublished", () => this.followMicrophone()],
            ["dataReceived", (...args) => this.heard(args)],
        ];
        for (const [event, listener] of this.listeners) room.on(event, listener);
    }

    /** Begin with a session, or go on with another: what its type decides and is not given is filled in. */
    setSessionConfig(session: SessionConfig): void {
        this.session = { syncAttempts: 0, inconsistencyDetected: false, ...session };
        this.change({ ...typed(session.type), ...session });
        this.nameRoom();
        this.tellType(session.type);
        if (this.enabled) this.begin();
    }

    /** As it is now; null before `setSessionConfig`. A copy. */
    getSessionConfig(): SessionConfig | null {
        return this.session === null ? null : { ...this.session };
    }

    /** The same and no copy: another object for each change, as views want it. */
    get current(): Readonly<SessionConfig> | null {
        return this.session;
    }

    /** Be called after each change of `current`. Answers what ends it. */
    subscribe(listener: () => void): () => void {
        this.watching.add(listener);
        return () => this.watching.delete(listener);
    }

    /** How the room is to be used: what the service wrote, else what the session's type says. */
    getRoomConfig(): LiveKitRoomConfig | null {
        return this.roomConfig() ?? (this.session === null ? null : roomConfigOf(this.sessionId, this.session.type));
    }

    /** Change members of the session here: a mute, its end. Nothing where there is none. */
    updateSession(change: Partial<SessionConfig>): void {
        if (this.session === null) return;
        this.change({ ...(change.type === undefined ? {} : typed(change.type)), ...change });
        if (change.type !== undefined) this.tellType(change.type);
        if (this.enabled) this.applyMicrophone();
    }

    /** Compare, correct and tell, now. Nothing while sync is off. */
    syncSessionState(trigger = "manual"): void {
        if (this.session === null || !this.enabled) return;
        const found = this.validateSessionState();
        if (found.needsResync) {
            const syncAttempts = (this.session.syncAttempts ?? 0) + 1;
            this.change({ ...found.corrections, lastSyncAt: new Date(), syncAttempts, inconsistencyDetected: true });
            this.emit("session_inconsistency", trigger);
        } else {
            this.change({ lastSyncAt: new Date() });
        }
        this.applyMicrophone();
        this.emit("session_state_sync", trigger);
    }

    /** Compare; nothing is changed. Without a session everything is valid. */
    validateSessionState(): SessionValidationResult {
        if (this.session === null) return { isValid: true, inconsistencies: [], corrections: {}, needsResync: false };
        return validate(this.session, this.seen());
    }

    /** Off: nothing is corrected and nothing told, whatever happens. On again: what has happened is made up for. */
    setSessionSyncEnabled(enabled: boolean): void {
        if (enabled === this.enabled) return;
        this.enabled = enabled;
        if (!enabled) return this.pause();
        if (this.session === null) return;
        this.begin();
        this.syncSessionState("enabled");
    }

    /** One callback, in place of the one before. What it throws is logged and changes nothing. */
    setSessionSyncEventCallback(callback: ((event: SessionSyncEvent) => void) | undefined): void {
        this.callback = callback;
    }

    /** Let go of the room: no timer and no listener is left. The room itself is left as it is. */
    close(): void {
        this.pause();
        this.microphone.close();
        for (const [event, listener] of this.listeners) this.room.off(event, listener);
    }

    // -- what happens in the room

    private get live(): boolean {
        return this.room.state === "connected";
    }

    private get sessionId(): string {
        const { sessionId } = this.options;
        return sessionId ?? this.roomConfig()?.sessionId ?? this.session?.roomId ?? this.room.name;
    }

    private connected(): void {
        if (this.session === null || !this.enabled) return;
        this.nameRoom();
        this.follow("connected");
        this.begin();
    }

    private reconnected(): void {
        if (this.session === null || !this.enabled) return;
        this.emit("room_state_change", "reconnected");
        this.syncSessionState("reconnected");
        this.begin();
    }

    private interrupted(trigger: string): void {
        if (this.session === null || !this.enabled) return;
        this.change({ state: stateBy(this.seen(), this.session.state) });
        this.emit("connection_interruption", trigger);
    }

    private disconnected(): void {
        if (this.session === null || !this.enabled) return;
        const { state } = this.session;
        const becomes = state === "ending" ? "idle" : stateBy(this.seen(), state);
        this.change({ state: becomes });
        this.emit("connection_interruption", "disconnected");
        if (becomes === "error") {
            this.alert({ kind: "disconnected", message: "The connection to the conversation is lost" });
        }
    }

    private changed(trigger: string): void {
        if (this.session === null || !this.enabled) return;
        if (this.told !== undefined && this.roomConfig()?.sessionType === this.told.type) this.told = undefined;
        this.follow(trigger);
        if (this.validateSessionState().needsResync) this.syncSessionState(trigger);
    }

    /** What the service says of the room is handed on, with what the front end has; and it is time to look. */
    private heard(args: unknown[]): void {
        if (this.session === null || !this.enabled) return;
        const said = readServiceEvent(args);
        if (said === null || (this.options.sessionId ?? said.payload.sessionId) !== said.payload.sessionId) return;
        if (this.validateSessionState().needsResync) this.syncSessionState("service");
        const event = { type: said.type, payload: { ...said.payload, frontendState: { ...this.session } } };
        if (this.callback !== undefined) this.guarded(this.callback, event);
        if (said.critical) this.alert({ kind: "inconsistency", message: said.inconsistencies.join("; ") });
    }

    /** The connection is taken over without a word of inconsistency: it is news, nothing was wrong. */
    private follow(trigger: string): void {
        if (this.session === null) return;
        this.change({ state: stateBy(this.seen(), this.session.state) });
        this.applyMicrophone();
        this.emit("room_state_change", trigger);
    }

    /** Somebody has closed or opened the microphone by the room itself: that is what the user has asked for. */
    private followMicrophone(): void {
        if (this.session === null || !this.enabled || !this.live || this.microphone.busy) return;
        if (settingsOf(this.session.type).voiceMode === undefined) return this.applyMicrophone();
        const open = this.room.localParticipant.isMicrophoneEnabled;
        if (open === wantsMicrophone(this.session)) return;
        this.change({ isMuted: !open });
        this.emit("room_state_change", "microphone");
    }

    // -- what is done

    private change(change: Partial<SessionConfig>): void {
        if (this.session === null) return;
        this.session = corrected(this.session, change);
        for (const listener of [...this.watching]) this.guarded(listener, undefined);
    }

    /** A session that names no room is in the one that it is in. */
    private nameRoom(): void {
        if (this.live && this.session?.roomId === undefined) this.change({ roomId: this.room.name });
    }

    private begin(): void {
        this.pause();
        this.applyMicrophone();
        this.first = setTimeout(() => this.syncSessionState("initial"), this.options.firstSyncMs ?? FIRST_SYNC_MS);
        this.monitor = setInterval(() => this.validation(), this.options.validationMs ?? VALIDATION_MS);
        letEnd(this.first);
        letEnd(this.monitor);
    }

    private pause(): void {
        clearTimeout(this.first);
        clearInterval(this.monitor);
        this.first = this.monitor = undefined;
    }

    /** On the clock. While a connection is being mended nothing is judged: its end is an event. */
    private validation(): void {
        if (this.room.state !== "connected" && this.room.state !== "disconnected") return;
        const found = this.validateSessionState();
        if (found.needsResync) this.syncSessionState("validation");
        else if (!found.isValid) this.incorrigible(found.inconsistencies.join("; "));
        else this.said = "";
    }

    /** What only somebody else can put right is told once. */
    private incorrigible(message: string): void {
        if (message === this.said) return;
        this.said = message;
        this.emit("session_inconsistency", "validation");
        this.alert({ kind: "inconsistency", message });
    }

    private applyMicrophone(): void {
        if (this.session === null || !this.live) return;
        const { audioSettings } = this.roomConfig() ?? roomConfigOf(this.sessionId, this.session.type);
        this.microphone.want(soundOf(this.session), audioSettings);
    }

    private microphoneFailed(sound: Sound, error: unknown): void {
        if (this.session === null || !this.enabled) return;
        this.change({ ...(sound === "open" ? { isMuted: true } : {}), inconsistencyDetected: true });
        this.emit("session_inconsistency", "microphone");
        const done = sound === "none" ? "closed" : "opened";
        this.alert({ kind: "microphone", message: `The microphone cannot be ${done}`, error });
    }

    private tellType(type: SessionConfig["type"]): void {
        const { tell } = this.options;
        if (tell === undefined || this.roomConfig()?.sessionType === type) return;
        const told = (this.told = { type, until: Date.now() + TOLD_MS });
        tell(roomConfigOf(this.sessionId, type)).catch((error: unknown) => {
            if (this.told === told) this.told = undefined;
            this.syncSessionState("refused");
            this.alert({ kind: "refused", message: "The service did not take the session's type", error });
        });
    }

    private roomConfig(): LiveKitRoomConfig | null {
        return readRoomMetadata(this.room.metadata);
    }

    private seen(): Seen {
        if (this.told !== undefined && Date.now() >= this.told.until) this.told = undefined;
        return {
            state: this.room.state,
            name: this.room.name,
            config: this.roomConfig(),
            microphone: this.room.localParticipant.isMicrophoneEnabled,
            busy: this.microphone.busy,
            toldType: this.told?.type,
            sessionId: this.options.sessionId,
        };
    }

    private roomState(): Partial<SessionConfig> {
        const config = this.roomConfig();
        const { state, name } = this.room;
        return {
            state: state === "connected" ? "active" : state === "disconnected" ? "idle" : "syncing",
            isMuted: !this.room.localParticipant.isMicrophoneEnabled,
            ...(name === "" ? {} : { roomId: name }),
            ...(config === null
                ? {}
                : {
                      type: config.sessionType,
                      turnDetection: config.turnDetection,
                      voiceActivityEnabled: config.voiceActivityEnabled,
                  }),
        };
    }

    private emit(type: SessionSyncEventType, trigger: string): void {
        const frontendState = this.getSessionConfig();
        if (frontendState === null || this.callback === undefined) return;
        const { sessionId } = this;
        const payload = { sessionId, frontendState, roomState: this.roomState(), timestamp: Date.now(), trigger };
        this.guarded(this.callback, { type, payload });
    }

    private alert(alert: SessionSyncAlert): void {
        if (this.options.onAlert !== undefined) this.guarded(this.options.onAlert, alert);
    }

    private guarded<T>(callback: (value: T) => void, value: T): void {
        try {
            callback(value);
        } catch (error) {
            console.error("sessionmanager: a callback of the session sync failed", error);
        }
    }
}

function soundOf(session: SessionConfig): Sound {
    if (settingsOf(session.type).voiceMode === undefined || session.state === "idle") return "none";
    return session.state === "active" && wantsMicrophone(session) ? "open" : "muted";
}
