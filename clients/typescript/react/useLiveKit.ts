/** The room of the conversation, and its session's agreement with it. */
import { useCallback, useMemo, useSyncExternalStore } from "react";
import type {
    ConnectionState,
    JoinableRoom,
    SessionConfig,
    SessionSyncEvent,
    SessionValidationResult,
} from "../src/livekit/index.js";
import { useAgent } from "./context.js";

export interface LiveKit {
    room: JoinableRoom;
    connectionState: `${ConnectionState}`;
    isConnected: boolean;
    /** Join it. url, token: `livekit` of what `POST /sessions/{id}/participants` answers. */
    connect: (url: string, token: string) => Promise<void>;
    /** Leave it in good order: the session ends here, and no error is told. */
    disconnect: () => Promise<void>;
    setSessionConfig: (session: SessionConfig) => void;
    getSessionConfig: () => SessionConfig | null;
    syncSessionState: (trigger?: string) => void;
    validateSessionState: () => SessionValidationResult;
    setSessionSyncEnabled: (enabled: boolean) => void;
    setSessionSyncEventCallback: (callback: ((event: SessionSyncEvent) => void) | undefined) => void;
}

export function useLiveKit(): LiveKit {
    const { room, sync, setSessionConfig, updateSession, setSessionSyncEventCallback } = useAgent();
    const subscribe = useCallback(
        (listener: () => void) => {
            room.on("connectionStateChanged", listener);
            return () => void room.off("connectionStateChanged", listener);
        },
        [room],
    );
    const connectionState = useSyncExternalStore(
        subscribe,
        () => room.state,
        () => room.state,
    );
    const actions = useMemo(
        () => ({
            connect: (url: string, token: string) => room.connect(url, token),
            disconnect: async () => {
                updateSession({ state: "ending" });
                await room.disconnect();
            },
            getSessionConfig: () => sync?.getSessionConfig() ?? null,
            syncSessionState: (trigger?: string) => sync?.syncSessionState(trigger),
            validateSessionState: () =>
                sync?.validateSessionState() ?? {
                    isValid: true,
                    inconsistencies: [],
                    corrections: {},
                    needsResync: false,
                },
            setSessionSyncEnabled: (enabled: boolean) => sync?.setSessionSyncEnabled(enabled),
        }),
        [room, sync, updateSession],
    );
    const isConnected = connectionState === "connected";
    return { room, connectionState, isConnected, setSessionConfig, setSessionSyncEventCallback, ...actions };
}
