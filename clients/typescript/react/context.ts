/** The context of a conversation: its room, its session, and what keeps the two in agreement. */
import {
    type ReactNode,
    createContext,
    createElement,
    useCallback,
    useContext,
    useEffect,
    useMemo,
    useRef,
    useState,
    useSyncExternalStore,
} from "react";
import {
    type JoinableRoom,
    type SessionConfig,
    SessionSync,
    type SessionSyncAlert,
    type SessionSyncEvent,
    type SessionSyncOptions,
    type SessionValidationResult,
} from "../src/livekit/index.js";

export interface AgentContextValue {
    room: JoinableRoom;
    /** null until the provider is mounted. */
    sync: SessionSync | null;
    /** As it is now; null before one is set. */
    session: Readonly<SessionConfig> | null;
    lastSyncEvent: SessionSyncEvent | null;
    /** What the user should be told; null once `dismissAlert` was called. */
    alert: SessionSyncAlert | null;
    dismissAlert: () => void;
    setSessionConfig: (session: SessionConfig) => void;
    updateSession: (change: Partial<SessionConfig>) => void;
    setSessionSyncEventCallback: (callback: ((event: SessionSyncEvent) => void) | undefined) => void;
    /** Compare with the room now, and put right what differs. */
    syncSessionWithRoom: () => void;
    /** Compare; put right what differs, if anything does. Answers what was found. */
    validateAndCorrectSession: () => SessionValidationResult;
}

export interface AgentProviderProps {
    /** `new Room(…)` of `livekit-client`, made once. */
    room: JoinableRoom;
    options?: Omit<SessionSyncOptions, "onAlert">;
    onSyncEvent?: (event: SessionSyncEvent) => void;
    children?: ReactNode;
}

const VALID: SessionValidationResult = { isValid: true, inconsistencies: [], corrections: {}, needsResync: false };
const AgentContext = createContext<AgentContextValue | null>(null);

/** Gives a room's session to whatever is inside. `options` are read when it is mounted, or gets another room. */
export function AgentProvider({ room, options, onSyncEvent, children }: AgentProviderProps): ReactNode {
    const [sync, setSync] = useState<SessionSync | null>(null);
    const [lastSyncEvent, setLastSyncEvent] = useState<SessionSyncEvent | null>(null);
    const [alert, setAlert] = useState<SessionSyncAlert | null>(null);
    const live = useRef<SessionSync | null>(null);
    // What is set before this is mounted (effects of children run first), or under another room, is not lost.
    const wanted = useRef<SessionConfig | null>(null);
    const callback = useRef<((event: SessionSyncEvent) => void) | undefined>(undefined);
    const told = useRef(onSyncEvent);
    const given = useRef(options);
    useEffect(() => {
        told.current = onSyncEvent;
        given.current = options;
    });

    useEffect(() => {
        const made = new SessionSync(room, { ...given.current, onAlert: setAlert });
        made.setSessionSyncEventCallback((event) => {
            setLastSyncEvent(event);
            told.current?.(event);
            callback.current?.(event);
        });
        const leave = made.subscribe(() => (wanted.current = made.getSessionConfig()));
        if (wanted.current !== null) made.setSessionConfig(wanted.current);
        live.current = made;
        setSync(made);
        return () => {
            leave();
            made.close();
            live.current = null;
            setSync(null);
        };
    }, [room]);

    const subscribe = useCallback((listener: () => void) => sync?.subscribe(listener) ?? (() => undefined), [sync]);
    const session = useSyncExternalStore(
        subscribe,
        () => sync?.current ?? null,
        () => null,
    );
    const actions = useMemo(
        () => ({
            dismissAlert: () => setAlert(null),
            setSessionConfig: (one: SessionConfig) => {
                wanted.current = one;
                live.current?.setSessionConfig(one);
            },
            updateSession: (change: Partial<SessionConfig>) => live.current?.updateSession(change),
            setSessionSyncEventCallback: (one: ((event: SessionSyncEvent) => void) | undefined) => {
                callback.current = one;
            },
            syncSessionWithRoom: () => live.current?.syncSessionState("manual"),
            validateAndCorrectSession: () => {
                const found = live.current?.validateSessionState() ?? VALID;
                if (found.needsResync) live.current?.syncSessionState("validation");
                return found;
            },
        }),
        [],
    );
    const value = useMemo(
        () => ({ room, sync, session, lastSyncEvent, alert, ...actions }),
        [room, sync, session, lastSyncEvent, alert, actions],
    );
    return createElement(AgentContext.Provider, { value }, children);
}

/** Throws outside an `AgentProvider`. */
export function useAgent(): AgentContextValue {
    const value = useContext(AgentContext);
    if (value === null) throw new Error("useAgent, useLiveKit and useVoice need an AgentProvider around them");
    return value;
}
