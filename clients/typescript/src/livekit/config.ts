/** The shapes that a session has in a front end, and what its type says about its room. `docs/how-to/livekit.md`. */

export type SessionType = "text" | "voice-ptt" | "voice-vad" | null;

/** Of the front end, not the session's `status`. `error`: it and its room do not agree, or there is no room. */
export type SessionState = "idle" | "active" | "ending" | "syncing" | "error";

export type TurnDetection = "server" | "client" | "none";
export type VoiceMode = "push-to-talk" | "continuous";

export interface SessionConfig {
    type: SessionType;
    state: SessionState;
    startedAt: Date | null;
    voiceMode?: VoiceMode;
    /** What the user has asked for; left out, a continuous session is heard and push-to-talk is not. */
    isMuted?: boolean;
    turnDetection?: TurnDetection;
    /** The name of the room. */
    roomId?: string;
    lastSyncAt?: Date;
    /** Corrections since the configuration was set. */
    syncAttempts?: number;
    /** Something was corrected since the configuration was set. */
    inconsistencyDetected?: boolean;
    voiceActivityEnabled?: boolean;
}

export interface AudioSettings {
    echoCancellation: boolean;
    noiseSuppression: boolean;
    autoGainControl: boolean;
}

/** How a room is to be used; the service writes it into the room's metadata. */
export interface LiveKitRoomConfig {
    sessionId: string;
    sessionType: SessionType;
    turnDetection: TurnDetection;
    voiceActivityEnabled: boolean;
    adaptiveStream: boolean;
    dynacast: boolean;
    audioSettings: AudioSettings;
}

export interface SessionValidationResult {
    isValid: boolean;
    /** One sentence for each, for people. */
    inconsistencies: string[];
    /** What would put it right. */
    corrections: Partial<SessionConfig>;
    needsResync: boolean;
}

export type SessionSyncEventType =
    "session_state_sync" | "room_state_change" | "connection_interruption" | "session_inconsistency";

export interface SessionSyncEvent {
    type: SessionSyncEventType;
    payload: {
        sessionId: string;
        frontendState: SessionConfig;
        /** What the room itself says. */
        roomState?: Partial<SessionConfig>;
        /** Milliseconds since 1970. */
        timestamp: number;
        /** What brought it about: `manual`, `initial`, `validation`, the name of a room's event, … */
        trigger: string;
    };
}

/** What a type asks for. */
export interface TypeSettings {
    turnDetection: TurnDetection;
    /** undefined: it has no voice. */
    voiceMode: VoiceMode | undefined;
    voiceActivityEnabled: boolean;
}

export const AUDIO_SETTINGS: Readonly<AudioSettings> = {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
};

/** The one table of types; the service has the same one. */
export function settingsOf(type: SessionType): TypeSettings {
    switch (type) {
        case "voice-ptt":
            return { turnDetection: "client", voiceMode: "push-to-talk", voiceActivityEnabled: true };
        case "voice-vad":
            return { turnDetection: "server", voiceMode: "continuous", voiceActivityEnabled: true };
        default:
            return { turnDetection: "none", voiceMode: undefined, voiceActivityEnabled: false };
    }
}

export function getExpectedTurnDetection(type: SessionType): TurnDetection {
    return settingsOf(type).turnDetection;
}

/** A new session of a type, with all that the type says. Where it is muted is left to the type as well. */
export function sessionConfigOf(type: SessionType, more: Partial<SessionConfig> = {}): SessionConfig {
    return { type, state: "active", startedAt: new Date(), ...typed(type), ...more };
}

/** The members of a configuration that its type decides. */
export function typed(type: SessionType): Partial<SessionConfig> {
    const { turnDetection, voiceMode, voiceActivityEnabled } = settingsOf(type);
    return { turnDetection, voiceActivityEnabled, ...(voiceMode === undefined ? {} : { voiceMode }) };
}

/** How the room of a session is to be used, where the service has not said it yet. */
export function roomConfigOf(sessionId: string, type: SessionType): LiveKitRoomConfig {
    const { turnDetection, voiceActivityEnabled } = settingsOf(type);
    return {
        sessionId,
        sessionType: type,
        turnDetection,
        voiceActivityEnabled,
        adaptiveStream: true,
        dynacast: true,
        audioSettings: { ...AUDIO_SETTINGS },
    };
}

/** The options for `new Room(…)` of `livekit-client`. */
export function roomOptionsOf(config: LiveKitRoomConfig): {
    adaptiveStream: boolean;
    dynacast: boolean;
    audioCaptureDefaults: AudioSettings;
} {
    const { adaptiveStream, dynacast, audioSettings } = config;
    return { adaptiveStream, dynacast, audioCaptureDefaults: { ...audioSettings } };
}

/** Whether the microphone is to be open: it has voice, and nobody has muted it. */
export function wantsMicrophone(session: SessionConfig): boolean {
    const { voiceMode } = settingsOf(session.type);
    return voiceMode !== undefined && !(session.isMuted ?? voiceMode === "push-to-talk");
}
