/** Scenarios for a session and its room: the four that every front end should pass, and yours. */
import { type SessionConfig, type SessionSyncEvent, sessionConfigOf } from "./config.js";
import type { RoomLike } from "./room.js";
import { SimulatedRoom } from "./simulated.js";
import { SessionSync, type SessionSyncOptions } from "./sync.js";

/** A room to test on, and what may happen to it. */
export interface RoomUnderTest {
    room: RoomLike;
    connect(): Promise<void>;
    /** Its connection is lost for a while; settles when the room says so. */
    interrupt(): Promise<void>;
    /** It is back; settles when the room says so. */
    recover(): Promise<void>;
    /** It is over, without a call of `disconnect`. */
    drop(): Promise<void>;
    /** Free what it holds. */
    dispose(): Promise<void>;
}

/** What a scenario works with. */
export interface ScenarioBench {
    sync: SessionSync;
    under: RoomUnderTest;
    /** All that was told so far. */
    events: readonly SessionSyncEvent[];
    /** The next event that fits, or one that came already. Throws after `patienceMs`. */
    until(fits: (event: SessionSyncEvent) => boolean, what: string): Promise<SessionSyncEvent>;
    /** Waits until it holds. Throws after `patienceMs`. */
    wait(holds: () => boolean, what: string): Promise<void>;
    /** Throws where it does not hold. */
    expect(holds: boolean, what: string): void;
}

export interface SessionSyncScenario {
    name: string;
    description?: string;
    /** Set once the room is connected, before `act`. */
    sessionConfig: SessionConfig;
    act?: (bench: ScenarioBench) => Promise<void> | void;
    /** Each must have come by the end, in any order. */
    expectedEvents?: SessionSyncEvent["type"][];
    /** Of the session at the end. */
    expectedState?: Partial<SessionConfig>;
}

export interface ScenarioResult {
    name: string;
    passed: boolean;
    /** Why not. */
    error?: string;
    durationMs: number;
    events: SessionSyncEvent[];
}

export interface TesterOptions {
    /** A room for each scenario; left out, simulated ones. */
    makeRoom?: () => Promise<RoomUnderTest> | RoomUnderTest;
    sync?: SessionSyncOptions;
    /** How long a scenario may wait for an event. */
    patienceMs?: number;
}

const PATIENCE_MS = 10_000;
const LOOK_MS = 10;
/** Simulated rooms answer at once; nothing need be waited for. */
const QUICK: SessionSyncOptions = { firstSyncMs: 5, validationMs: 25 };

/** Runs scenarios one after the other, each with a room of its own. */
export class SessionSynchronizationTester {
    private readonly scenarios: SessionSyncScenario[] = [...SCENARIOS];

    constructor(private readonly options: TesterOptions = {}) {}

    addScenario(scenario: SessionSyncScenario): this {
        this.scenarios.push(scenario);
        return this;
    }

    /** All of them, whatever becomes of the others. */
    async runAllTests(): Promise<ScenarioResult[]> {
        const results: ScenarioResult[] = [];
        for (const scenario of this.scenarios) results.push(await this.run(scenario));
        return results;
    }

    private async run(scenario: SessionSyncScenario): Promise<ScenarioResult> {
        const began = performance.now();
        const { makeRoom = simulated, patienceMs = PATIENCE_MS } = this.options;
        const given = this.options.sync ?? (this.options.makeRoom === undefined ? QUICK : {});
        const under = await makeRoom();
        const sync = new SessionSync(under.room, given);
        const bench = new Bench(sync, under, patienceMs);
        let error: string | undefined;
        try {
            await under.connect();
            sync.setSessionConfig(scenario.sessionConfig);
            await scenario.act?.(bench);
            for (const type of scenario.expectedEvents ?? []) await bench.until((one) => one.type === type, type);
            const state = { ...sync.getSessionConfig() } as Record<string, unknown>;
            for (const [member, value] of Object.entries(scenario.expectedState ?? {})) {
                bench.expect(state[member] === value, `${member} is ${String(state[member])}, not ${String(value)}`);
            }
        } catch (problem) {
            error = problem instanceof Error ? problem.message : String(problem);
        } finally {
            sync.close();
            await under.dispose();
        }
        const told = { name: scenario.name, durationMs: performance.now() - began, events: [...bench.events] };
        return error === undefined ? { ...told, passed: true } : { ...told, passed: false, error };
    }
}

class Bench implements ScenarioBench {
    readonly events: SessionSyncEvent[] = [];
    private waiting: (() => void)[] = [];

    constructor(
        readonly sync: SessionSync,
        readonly under: RoomUnderTest,
        private readonly patienceMs: number,
    ) {
        sync.setSessionSyncEventCallback((event) => {
            this.events.push(event);
            for (const wake of this.waiting.splice(0)) wake();
        });
    }

    // Scenarios take these out of the bench by name.
    readonly until = async (fits: (event: SessionSyncEvent) => boolean, what: string): Promise<SessionSyncEvent> => {
        const giveUpAt = performance.now() + this.patienceMs;
        for (;;) {
            const found = this.events.find(fits);
            if (found !== undefined) return found;
            const left = giveUpAt - performance.now();
            this.expect(left > 0, `no ${what} came within ${this.patienceMs} ms`);
            await new Promise<void>((resolve) => {
                const timer = setTimeout(resolve, left);
                this.waiting.push(() => {
                    clearTimeout(timer);
                    resolve();
                });
            });
        }
    };

    readonly wait = async (holds: () => boolean, what: string): Promise<void> => {
        const giveUpAt = performance.now() + this.patienceMs;
        while (!holds()) {
            this.expect(performance.now() < giveUpAt, `no ${what} within ${this.patienceMs} ms`);
            await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        }
    };

    readonly expect = (holds: boolean, what: string): void => {
        if (!holds) throw new Error(what);
    };
}

/** A simulated room under test. */
export function simulated(): RoomUnderTest {
    const room = new SimulatedRoom();
    return {
        room,
        connect: () => room.connect(),
        interrupt: async () => room.interrupt(),
        recover: async () => room.recover(),
        drop: async () => room.drop(),
        dispose: () => room.disconnect(),
    };
}

const triggered = (trigger: string) => (event: SessionSyncEvent) => event.payload.trigger === trigger;

/** The four scenarios of every front end. */
export const SCENARIOS: readonly SessionSyncScenario[] = [
    {
        name: "Basic Session Sync",
        description: "A session that is set is compared with its room by itself, and knows which room it is in.",
        sessionConfig: sessionConfigOf("text"),
        act: async ({ sync, until, under, expect }) => {
            const { payload } = await until(triggered("initial"), "first sync");
            expect(payload.sessionId !== "", "the event names no session");
            expect(payload.roomState?.roomId === under.room.name, "the event names another room");
            expect(sync.validateSessionState().isValid, sync.validateSessionState().inconsistencies.join("; "));
        },
        expectedEvents: ["session_state_sync"],
        expectedState: { state: "active", turnDetection: "none", voiceActivityEnabled: false },
    },
    {
        name: "Voice Session with Turn Detection",
        description: "A continuous session opens the microphone and lets the server find the turns.",
        sessionConfig: sessionConfigOf("voice-vad"),
        act: async ({ sync, until, under, wait, expect }) => {
            await until(triggered("initial"), "first sync");
            await wait(() => under.room.localParticipant.isMicrophoneEnabled, "open microphone");
            const { isMuted } = sync.getSessionConfig() ?? {};
            expect(isMuted !== true, "the session is muted");
        },
        expectedState: { turnDetection: "server", voiceMode: "continuous", voiceActivityEnabled: true },
    },
    {
        name: "Connection Interruption Recovery",
        description: "While the connection is lost the session says so, and it is active again by itself.",
        sessionConfig: sessionConfigOf("voice-ptt"),
        act: async ({ sync, until, under, expect }) => {
            await until(triggered("initial"), "first sync");
            await under.interrupt();
            const { payload } = await until((one) => one.type === "connection_interruption", "interruption");
            expect(payload.frontendState.state === "syncing", `interrupted it is ${payload.frontendState.state}`);
            await under.recover();
            await until(triggered("reconnected"), "reconnection");
            await until((one) => one.type === "session_state_sync" && triggered("reconnected")(one), "sync");
            expect(sync.validateSessionState().isValid, "it is not valid after all");
        },
        expectedEvents: ["connection_interruption", "room_state_change", "session_state_sync"],
        expectedState: { state: "active", turnDetection: "client" },
    },
    {
        name: "Session State Validation",
        description: "A session that contradicts its type and its room is found out and put right by itself.",
        sessionConfig: sessionConfigOf("text", { turnDetection: "server", roomId: "another" }),
        act: async ({ sync, until, expect }) => {
            const found = sync.validateSessionState();
            expect(found.needsResync && !found.isValid, "nothing was found");
            expect(found.inconsistencies.length >= 2, `only found: ${found.inconsistencies.join("; ")}`);
            await until((one) => one.type === "session_inconsistency", "inconsistency");
            expect(sync.validateSessionState().isValid, "it was not put right");
        },
        expectedEvents: ["session_inconsistency", "session_state_sync"],
        expectedState: { turnDetection: "none", syncAttempts: 1, inconsistencyDetected: true },
    },
];

/** The four scenarios on simulated rooms, in well under a second. Throws with the names of those that failed. */
export async function runQuickSessionTest(): Promise<ScenarioResult[]> {
    const results = await new SessionSynchronizationTester().runAllTests();
    const failed = results.filter((one) => !one.passed).map((one) => `${one.name}: ${one.error ?? "failed"}`);
    if (failed.length > 0) throw new Error(failed.join("\n"));
    return results;
}
