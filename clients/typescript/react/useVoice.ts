/** The voice of the conversation: muted or heard, as the session says, which the microphone follows. */
import { useMemo } from "react";
import { type TurnDetection, type VoiceMode, settingsOf, wantsMicrophone } from "../src/livekit/index.js";
import { useAgent } from "./context.js";

export interface Voice {
    /** Whether the session has a voice at all. */
    isVoiceSession: boolean;
    voiceMode: VoiceMode | undefined;
    turnDetection: TurnDetection;
    voiceActivityEnabled: boolean;
    isMuted: boolean;
    setMuted: (muted: boolean) => void;
    toggleMute: () => void;
    /** Of push-to-talk: while the button is held. */
    startTalking: () => void;
    stopTalking: () => void;
}

export function useVoice(): Voice {
    const { sync, session, updateSession } = useAgent();
    const { voiceMode, turnDetection, voiceActivityEnabled } = settingsOf(session?.type ?? null);
    const actions = useMemo(() => {
        const setMuted = (isMuted: boolean): void => {
            if (settingsOf(sync?.current?.type ?? null).voiceMode !== undefined) updateSession({ isMuted });
        };
        return {
            setMuted,
            toggleMute: () => setMuted(sync?.current != null && wantsMicrophone(sync.current)),
            startTalking: () => setMuted(false),
            stopTalking: () => setMuted(true),
        };
    }, [sync, updateSession]);
    const isMuted = session === null || !wantsMicrophone(session);
    const isVoiceSession = voiceMode !== undefined;
    return { isVoiceSession, voiceMode, turnDetection, voiceActivityEnabled, isMuted, ...actions };
}
