/** The tester itself: its four scenarios pass on a sync that works, and each fails on one that does not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
    SCENARIOS,
    SessionSync,
    SessionSynchronizationTester,
    SimulatedRoom,
    runQuickSessionTest,
    sessionConfigOf,
    simulated,
} from "../src/livekit/index.js";

const NAMES = [
    "Basic Session Sync",
    "Voice Session with Turn Detection",
    "Connection Interruption Recovery",
    "Session State Validation",
];

test("the quick test runs the four scenarios, and all pass", async () => {
    const results = await runQuickSessionTest();
    assert.deepEqual(
        results.map((one) => one.name),
        NAMES,
    );
    assert(results.every((one) => one.passed && one.error === undefined && one.events.length > 0));
});

test("a scenario of one's own runs after the four, and says what it found otherwise", async () => {
    const tester = new SessionSynchronizationTester({ patienceMs: 50 });
    tester
        .addScenario({
            name: "mine",
            sessionConfig: sessionConfigOf("voice-ptt"),
            act: ({ sync }) => sync.updateSession({ isMuted: false }),
            expectedState: { isMuted: false },
        })
        .addScenario({ name: "wrong", sessionConfig: sessionConfigOf("text"), expectedState: { state: "idle" } })
        .addScenario({
            name: "waits in vain",
            sessionConfig: sessionConfigOf("text"),
            expectedEvents: ["connection_interruption"],
        });
    const results = await tester.runAllTests();
    assert.deepEqual(
        results.map((one) => [one.name, one.passed]),
        [...NAMES.map((name) => [name, true]), ["mine", true], ["wrong", false], ["waits in vain", false]],
    );
    assert.equal(results.at(-2)?.error, "state is active, not idle");
    assert.match(results.at(-1)?.error ?? "", /no connection_interruption came within 50 ms/);
});

test("each of the four fails where what it asks for is broken", async (t) => {
    const broken: Record<string, (sync: SessionSync, room: SimulatedRoom) => void> = {
        "Basic Session Sync": (sync) => sync.setSessionSyncEnabled(false),
        "Voice Session with Turn Detection": (_sync, room) => {
            room.localParticipant.refuses = new Error("no microphone");
        },
        "Connection Interruption Recovery": (_sync, room) => {
            room.recover = () => undefined;
        },
        "Session State Validation": (sync) => {
            sync.validateSessionState = () => ({
                isValid: true,
                inconsistencies: [],
                corrections: {},
                needsResync: false,
            });
        },
    };
    assert.deepEqual(Object.keys(broken), NAMES);
    for (const [name, harm] of Object.entries(broken)) {
        await t.test(name, async () => {
            const scenario = SCENARIOS.find((one) => one.name === name) ?? assert.fail();
            const tester = new SessionSynchronizationTester({ patienceMs: 60, makeRoom: simulated, sync: QUICK });
            tester.addScenario({
                ...scenario,
                name: "harmed",
                act: async (bench) => {
                    harm(bench.sync, bench.under.room as SimulatedRoom);
                    await scenario.act?.(bench);
                },
                sessionConfig: { ...scenario.sessionConfig },
            });
            const result = (await tester.runAllTests()).at(-1);
            assert.equal(result?.name, "harmed");
            assert.equal(result.passed, false);
        });
    }
});

const QUICK = { firstSyncMs: 5, validationMs: 25 };
