/** Whether a session and its room agree: pure, so that the same is asked on the clock, by hand and after each event. */
import {
    type LiveKitRoomConfig,
    type SessionConfig,
    type SessionState,
    type SessionValidationResult,
    settingsOf,
    typed,
    wantsMicrophone,
} from "./config.js";
import type { ConnectionState } from "./room.js";

/** What is seen of a room. */
export interface Seen {
    state: `${ConnectionState}`;
    name: string;
    /** Of the service, null where it has written nothing. */
    config: LiveKitRoomConfig | null;
    microphone: boolean;
    /** The microphone is being opened or closed just now: nothing is to be said of it. */
    busy: boolean;
    /** A type that was set here and that the service was told of; the room may not say it yet. */
    toldType: SessionConfig["type"] | undefined;
    /** The session whose room it is to be, where that is known. */
    sessionId: string | undefined;
}

/** The state that a session is in by its room: a session that has not begun, or is about to end, is left alone. */
export function stateBy(seen: Seen, now: SessionState): SessionState {
    if (now === "idle" || now === "ending") return now;
    if (seen.state === "disconnected") return "error";
    if (seen.state !== "connected") return "syncing";
    return isForeign(seen) ? "error" : "active";
}

export function validate(session: SessionConfig, seen: Seen): SessionValidationResult {
    const inconsistencies: string[] = [];
    const corrections: Partial<SessionConfig> = {};
    const wrong = (what: string, correction: Partial<SessionConfig> = {}): void => {
        inconsistencies.push(what);
        Object.assign(corrections, correction);
    };
    if (seen.state === "connected" && isForeign(seen)) {
        wrong(`The room belongs to another session: ${seen.config?.sessionId}`);
    }
    const state = stateBy(seen, session.state);
    if (state !== session.state) wrong(`Session ${session.state} but room ${seen.state}`, { state });
    if (seen.state === "connected" && session.roomId !== seen.name && seen.name !== "") {
        wrong(`Room mismatch: expected ${seen.name}, got ${session.roomId ?? "none"}`, { roomId: seen.name });
    }
    const type = typeBy(session, seen);
    if (type !== session.type) {
        wrong(`Session type mismatch: the room says ${type ?? "none"}, got ${session.type ?? "none"}`, { type });
    }
    checkSettings({ ...session, type }, wrong);
    checkMicrophone(session, { ...session, ...corrections }, seen, wrong);
    return {
        isValid: inconsistencies.length === 0,
        inconsistencies,
        corrections,
        needsResync: Object.keys(corrections).length > 0,
    };
}

type Wrong = (what: string, correction?: Partial<SessionConfig>) => void;

function checkSettings(session: SessionConfig, wrong: Wrong): void {
    const expected = typed(session.type);
    if (session.turnDetection !== expected.turnDetection) {
        const got = session.turnDetection ?? "none given";
        wrong(`Turn detection mismatch: expected ${expected.turnDetection}, got ${got}`, {
            turnDetection: expected.turnDetection ?? "none",
        });
    }
    if (session.voiceActivityEnabled !== expected.voiceActivityEnabled) {
        wrong(`Voice activity mismatch: expected ${expected.voiceActivityEnabled}`, {
            voiceActivityEnabled: expected.voiceActivityEnabled ?? false,
        });
    }
    if (session.voiceMode !== expected.voiceMode && expected.voiceMode !== undefined) {
        wrong(`Voice mode mismatch: expected ${expected.voiceMode}, got ${session.voiceMode ?? "none"}`, {
            voiceMode: expected.voiceMode,
        });
    }
}

/** A microphone that must not be heard is closed by itself. One that ought to be open and is not was refused, or taken
 * away: it is not opened behind the user's back, what is said of it is corrected. */
function checkMicrophone(session: SessionConfig, becomes: SessionConfig, seen: Seen, wrong: Wrong): void {
    if (seen.state !== "connected" || seen.busy) return;
    const wanted = becomes.state === "active" && wantsMicrophone(becomes);
    const settled = session.state === becomes.state && session.type === becomes.type;
    if (wanted && !seen.microphone && settled) wrong("Voice session but microphone closed", { isMuted: true });
    if (!wanted && seen.microphone && becomes.state === "active") {
        const voice = settingsOf(becomes.type).voiceMode !== undefined;
        wrong(voice ? "Session muted but microphone open" : "Text session but microphone open", { isMuted: true });
    }
}

function isForeign(seen: Seen): boolean {
    return seen.sessionId !== undefined && seen.config !== null && seen.config.sessionId !== seen.sessionId;
}

/** The service says what a session is; what it was told of a moment ago it says soon. */
function typeBy(session: SessionConfig, seen: Seen): SessionConfig["type"] {
    if (seen.state !== "connected" || seen.config === null || isForeign(seen)) return session.type;
    return seen.toldType === undefined ? seen.config.sessionType : session.type;
}

/** The session with corrections applied; a type without voice has no voice mode. */
export function corrected(session: SessionConfig, corrections: Partial<SessionConfig>): SessionConfig {
    const changed: SessionConfig = { ...session, ...corrections };
    if (settingsOf(changed.type).voiceMode === undefined) delete changed.voiceMode;
    return changed;
}
