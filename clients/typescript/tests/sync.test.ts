/** A session in a front end and its room, on a room that does what `livekit-client`'s does. No service is needed. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Room } from "livekit-client";
import {
    type LiveKitRoomConfig,
    type RoomLike,
    type SessionConfig,
    SessionSync,
    type SessionSyncAlert,
    type SessionSyncEvent,
    type SessionSyncOptions,
    type SessionType,
    SimulatedRoom,
    readRoomMetadata,
    roomConfigOf,
    roomOptionsOf,
    sessionConfigOf,
} from "../src/livekit/index.js";
import { validate } from "../src/livekit/validation.js";

/** Lets what a room does in turns of the loop be done. */
async function turns(): Promise<void> {
    for (let count = 0; count < 10; count += 1) await Promise.resolve();
}

function written(type: SessionType, more: Partial<LiveKitRoomConfig> = {}): string {
    return JSON.stringify({ ...roomConfigOf("call-4711", type), ...more });
}

interface Bench {
    room: SimulatedRoom;
    sync: SessionSync;
    events: SessionSyncEvent[];
    alerts: SessionSyncAlert[];
    /** What was told since the last call, as `type trigger`. */
    told: () => string[];
    session: () => SessionConfig;
    tick: (ms: number) => Promise<void>;
}

function bench(t: TestContext, options: SessionSyncOptions = {}, metadata?: string): Bench {
    t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
    const room = new SimulatedRoom({ name: "room-1", ...(metadata === undefined ? {} : { metadata }) });
    const alerts: SessionSyncAlert[] = [];
    const sync = new SessionSync(room, { onAlert: (alert) => alerts.push(alert), ...options });
    const events: SessionSyncEvent[] = [];
    sync.setSessionSyncEventCallback((event) => events.push(event));
    let seen = 0;
    return {
        room,
        sync,
        events,
        alerts,
        told: () => events.slice(seen, (seen = events.length)).map((one) => `${one.type} ${one.payload.trigger}`),
        session: () => sync.getSessionConfig() ?? assert.fail("there is no session"),
        tick: async (ms) => {
            t.mock.timers.tick(ms);
            await turns();
        },
    };
}

test("a session's type decides turn detection, voice mode, voice activity and microphone", async (t) => {
    const expected = [
        ["text", "none", undefined, false, false],
        ["voice-ptt", "client", "push-to-talk", true, false],
        ["voice-vad", "server", "continuous", true, true],
        [null, "none", undefined, false, false],
    ] as const;
    for (const [type, turnDetection, voiceMode, voiceActivityEnabled, open] of expected) {
        await t.test(String(type), async (t) => {
            const { room, sync, session } = bench(t);
            await room.connect();
            sync.setSessionConfig({ type, state: "active", startedAt: null });
            await turns();
            assert.equal(session().turnDetection, turnDetection);
            assert.equal(session().voiceMode, voiceMode);
            assert.equal(session().voiceActivityEnabled, voiceActivityEnabled);
            assert.equal(session().roomId, "room-1");
            assert.equal(room.localParticipant.isMicrophoneEnabled, open);
            assert.equal(room.localParticipant.published, voiceMode !== undefined, "a voice has a track, muted or not");
            assert(sync.validateSessionState().isValid);
        });
    }
});

test("the first sync comes after a second, validations every five, and a valid one is told of once", async (t) => {
    const { room, sync, told, session, tick } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("text"));
    await tick(999);
    assert.deepEqual(told(), []);
    await tick(1);
    assert.deepEqual(told(), ["session_state_sync initial"]);
    assert(session().lastSyncAt instanceof Date);
    assert.deepEqual([session().syncAttempts, session().inconsistencyDetected], [0, false]);
    await tick(20_000);
    assert.deepEqual(told(), []);
    room.name = "room-2"; // without an event: the clock alone finds it
    await tick(5_000);
    assert.deepEqual(told(), ["session_inconsistency validation", "session_state_sync validation"]);
    assert.deepEqual([session().roomId, session().syncAttempts], ["room-2", 1]);
    assert.equal(session().inconsistencyDetected, true);
});

test("an event says who, both states, when and why", async (t) => {
    const { room, sync, events } = bench(t, {}, written("voice-ptt"));
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-ptt", { isMuted: true }));
    sync.syncSessionState();
    const { type, payload } = events.at(-1) ?? assert.fail();
    assert.equal(type, "session_state_sync");
    assert.deepEqual(Object.keys(payload).sort(), ["frontendState", "roomState", "sessionId", "timestamp", "trigger"]);
    assert.equal(payload.sessionId, "call-4711");
    assert.equal(payload.trigger, "manual");
    assert.equal(payload.timestamp, Date.now());
    assert.equal(payload.frontendState.isMuted, true);
    assert.deepEqual(payload.roomState, {
        state: "active",
        isMuted: true,
        roomId: "room-1",
        type: "voice-ptt",
        turnDetection: "client",
        voiceActivityEnabled: true,
    });
    payload.frontendState.state = "ending";
    assert.equal(sync.getSessionConfig()?.state, "active", "what is told is a copy");
});

test("each of the four checks finds its inconsistency and its correction", async (t) => {
    const { room, sync } = bench(t);
    const found = (session: Partial<SessionConfig>) => {
        sync.setSessionConfig(sessionConfigOf("text", session));
        const { isValid, inconsistencies, corrections, needsResync } = sync.validateSessionState();
        assert.deepEqual([isValid, needsResync, inconsistencies.length], [false, true, 1]);
        return corrections;
    };
    assert.deepEqual(found({}), { state: "error" }, "active without a room");
    await room.connect();
    assert.deepEqual(found({ roomId: "another" }), { roomId: "room-1" });
    assert.deepEqual(found({ turnDetection: "server" }), { turnDetection: "none" });
    assert.deepEqual(found({ voiceActivityEnabled: true }), { voiceActivityEnabled: false });
    sync.close(); // so that nothing but the check itself sees to the microphone
    await room.localParticipant.setMicrophoneEnabled(true);
    sync.setSessionConfig(sessionConfigOf("text", { state: "active" }));
    assert.deepEqual(sync.validateSessionState().corrections, { isMuted: true });
});

test("a microphone is not judged before the session itself was put right", () => {
    const config = roomConfigOf("call-4711", "voice-vad");
    const seen = { state: "connected", name: "room-1", config, microphone: false, busy: false } as const;
    const session = sessionConfigOf("voice-vad", { state: "syncing", roomId: "room-1" });
    const found = (one: SessionConfig) =>
        validate(one, { ...seen, toldType: undefined, sessionId: undefined }).corrections;
    assert.deepEqual(found(session), { state: "active" });
    assert.deepEqual(found({ ...session, state: "active" }), { isMuted: true });
});

test("an interruption is syncing, a reconnection is active again by itself, and the mute is kept", async (t) => {
    for (const kind of ["signalReconnecting", "reconnecting"] as const) {
        await t.test(kind, async (t) => {
            const { room, sync, told, session, tick } = bench(t);
            await room.connect();
            sync.setSessionConfig(sessionConfigOf("voice-vad", { isMuted: true }));
            await tick(1_000);
            told();
            room.interrupt(kind);
            assert.equal(session().state, "syncing");
            sync.updateSession({ turnDetection: "none" });
            await tick(20_000);
            assert.deepEqual(told(), [`connection_interruption ${kind}`], "nothing is judged meanwhile");
            room.recover();
            await turns();
            assert.deepEqual(
                told().filter((one) => !one.includes("inconsistency")),
                ["room_state_change reconnected", "session_state_sync reconnected"],
            );
            assert.deepEqual([session().state, session().isMuted], ["active", true]);
            assert.equal(session().turnDetection, "server");
            assert.equal(room.localParticipant.isMicrophoneEnabled, false);
            assert(sync.validateSessionState().isValid);
        });
    }
});

test("a lost room is an error that the user is told of once, and a new connection heals it", async (t) => {
    const { room, sync, told, alerts, session, tick } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-vad"));
    await tick(1_000);
    told();
    room.drop(9);
    assert.equal(session().state, "error");
    await tick(30_000);
    assert.deepEqual(told(), ["connection_interruption disconnected"]);
    assert.deepEqual(
        alerts.map((one) => one.kind),
        ["disconnected"],
    );
    await room.connect();
    await turns();
    assert.equal(session().state, "active");
    assert.equal(room.localParticipant.isMicrophoneEnabled, true);
    await tick(1_000);
    assert.deepEqual(told(), ["room_state_change connected", "session_state_sync initial"]);
});

test("a session that ends leaves its room without an error", async (t) => {
    const { room, sync, alerts, session, tick } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-vad"));
    await tick(1_000);
    sync.updateSession({ state: "ending" });
    await turns();
    assert.equal(room.localParticipant.isMicrophoneEnabled, false, "nobody is heard while it ends");
    await room.disconnect();
    assert.equal(session().state, "idle");
    assert.deepEqual(alerts, []);
});

test("what the service writes into the room is followed, and what stands between is not lost", async (t) => {
    const { room, sync, told, session, tick } = bench(t, {}, written("text"));
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("text"));
    await tick(1_000);
    told();
    room.setMetadata(written("voice-vad", { audioSettings: { ...quiet } }));
    await turns();
    assert.equal(session().type, "voice-vad");
    assert.equal(session().turnDetection, "server");
    assert.equal(room.localParticipant.isMicrophoneEnabled, true, "a session that has a voice now is heard");
    assert.deepEqual(room.localParticipant.options, quiet);
    assert.notEqual(session().isMuted, true);
    room.interrupt();
    room.setMetadata(written("text"));
    room.recover();
    await turns();
    assert.equal(session().type, "text");
    assert.equal(session().voiceMode, undefined);
    assert.equal(room.localParticipant.isMicrophoneEnabled, false);
    assert(sync.validateSessionState().isValid);
});

const quiet = { echoCancellation: true, noiseSuppression: false, autoGainControl: false };

test("what is set here is told to the service, and stands until the room says the same", async (t) => {
    const told: (SessionType | undefined)[] = [];
    const tell = async (config: LiveKitRoomConfig) => void told.push(config.sessionType);
    const { room, sync, session, tick } = bench(t, { tell }, written("text"));
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-ptt"));
    await tick(6_000);
    assert.deepEqual(told, ["voice-ptt"]);
    assert.equal(session().type, "voice-ptt");
    room.setMetadata(written("voice-ptt"));
    await tick(60_000);
    assert.equal(session().type, "voice-ptt");
    assert.equal(session().inconsistencyDetected, false);
});

test("where the service does not take it, or nothing comes of it, the room's word stands", async (t) => {
    await t.test("refused", async (t) => {
        const tell = () => Promise.reject(new Error("forbidden"));
        const { room, sync, session, alerts, tick } = bench(t, { tell }, written("text"));
        await room.connect();
        sync.setSessionConfig(sessionConfigOf("voice-vad"));
        await tick(1_000);
        assert.deepEqual([session().type, alerts[0]?.kind], ["text", "refused"]);
        assert.equal(room.localParticipant.isMicrophoneEnabled, false);
    });
    await t.test("forgotten", async (t) => {
        const { room, sync, session, tick } = bench(t, { tell: async () => undefined }, written("text"));
        await room.connect();
        sync.setSessionConfig(sessionConfigOf("voice-vad"));
        await tick(5_000);
        assert.equal(session().type, "voice-vad");
        await tick(10_000);
        assert.equal(session().type, "text");
    });
    await t.test("not told", async (t) => {
        const { room, sync, session, tick } = bench(t, {}, written("text"));
        await room.connect();
        sync.setSessionConfig(sessionConfigOf("voice-vad"));
        await tick(1_000);
        assert.equal(session().type, "text");
    });
});

test("a microphone that is closed or opened by the room itself is what the user has asked for", async (t) => {
    const { room, sync, told, session, tick } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-vad"));
    await tick(1_000);
    told();
    await room.localParticipant.setMicrophoneEnabled(false);
    assert.deepEqual([session().isMuted, told()], [true, ["room_state_change microphone"]]);
    await room.localParticipant.setMicrophoneEnabled(true);
    assert.deepEqual([session().isMuted, told()], [false, ["room_state_change microphone"]]);
    sync.setSessionConfig(sessionConfigOf("text"));
    await turns();
    await room.localParticipant.setMicrophoneEnabled(true);
    await turns();
    assert.equal(room.localParticipant.isMicrophoneEnabled, false, "nobody is heard in a text session");
});

test("of many changes of the microphone the last one counts", async (t) => {
    const { room, sync } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-ptt"));
    for (let count = 0; count < 21; count += 1) sync.updateSession({ isMuted: count % 2 === 1 });
    await turns();
    assert.equal(room.localParticipant.isMicrophoneEnabled, true);
    sync.updateSession({ isMuted: true });
    sync.updateSession({ isMuted: false });
    sync.updateSession({ isMuted: true });
    await turns();
    assert.equal(room.localParticipant.isMicrophoneEnabled, false);
});

test("a microphone that is refused mutes the session and is told, and is not asked for again by itself", async (t) => {
    const { room, sync, told, alerts, session, tick } = bench(t);
    room.localParticipant.refuses = new Error("NotAllowedError");
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-vad"));
    await turns();
    assert.equal(session().isMuted, true);
    assert.deepEqual(told(), ["session_inconsistency microphone"]);
    assert.deepEqual([alerts[0]?.kind, alerts[0]?.error], ["microphone", room.localParticipant.refuses]);
    room.localParticipant.refuses = undefined;
    await tick(30_000);
    assert.equal(room.localParticipant.isMicrophoneEnabled, false);
    sync.updateSession({ isMuted: false });
    await turns();
    assert.equal(room.localParticipant.isMicrophoneEnabled, true);
});

test("switched off, nothing is told, corrected or opened; switched on, it is made up for", async (t) => {
    const { room, sync, events, session, tick } = bench(t);
    sync.setSessionSyncEnabled(false);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-vad", { turnDetection: "none" }));
    room.interrupt();
    room.recover();
    room.setMetadata(written("text"));
    sync.syncSessionState();
    await tick(30_000);
    assert.deepEqual(events, []);
    assert.equal(session().turnDetection, "none");
    assert.equal(room.localParticipant.isMicrophoneEnabled, false);
    sync.setSessionSyncEnabled(true);
    await turns();
    assert.deepEqual([session().type, session().turnDetection], ["text", "none"]);
    assert(sync.validateSessionState().isValid);
});

test("a room of another session is an error that is told once, and nobody is heard in it", async (t) => {
    const { room, sync, told, alerts, session, tick } = bench(t, { sessionId: "mine" }, written("voice-vad"));
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-vad"));
    await tick(60_000);
    assert.equal(session().state, "error");
    assert.equal(room.localParticipant.isMicrophoneEnabled, false);
    assert.deepEqual(
        alerts.map((one) => one.kind),
        ["inconsistency"],
    );
    assert(told().length <= 4);
    room.setMetadata(written("voice-vad", { sessionId: "mine" }));
    await tick(5_000);
    assert.equal(session().state, "active");
    assert.equal(room.localParticipant.isMicrophoneEnabled, true);
});

test("what the service sends into the room is handed on with the state of the front end", async (t) => {
    const { room, sync, events, alerts, tick } = bench(t, { sessionId: "call-4711" }, written("voice-ptt"));
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-ptt"));
    await tick(1_000);
    const payload = {
        sessionId: "call-4711",
        trigger: "timer",
        timestamp: 1_795_258_577_123,
        roomState: { state: "active", roomId: "room-1", voiceMode: null, lastSyncAt: 1_795_258_577_123 },
        inconsistencies: ["microphone_missing:caller-1"],
        corrections: {},
        critical: true,
    };
    const bytes = (said: unknown) => new TextEncoder().encode(JSON.stringify(said));
    const said = { type: "session_inconsistency", payload };
    events.length = 0;
    room.receive(bytes(said), "sessionmanager.sync", { identity: "mallory" });
    room.receive(bytes(said), "chat");
    room.receive(bytes({ ...said, type: "rumour" }), "sessionmanager.sync");
    room.receive(bytes({ ...said, payload: { ...payload, sessionId: "another" } }), "sessionmanager.sync");
    room.receive(bytes([]), "sessionmanager.sync");
    room.receive(new Uint8Array([0xff]), "sessionmanager.sync");
    room.receive(new Uint8Array(70_000), "sessionmanager.sync");
    assert.deepEqual(events, [], "whoever else speaks is not the service");
    room.receive(bytes(said), "sessionmanager.sync");
    assert.deepEqual(events, [
        {
            type: "session_inconsistency",
            payload: {
                sessionId: "call-4711",
                trigger: "timer",
                timestamp: 1_795_258_577_123,
                roomState: { state: "active", roomId: "room-1", lastSyncAt: new Date(1_795_258_577_123) },
                frontendState: sync.getSessionConfig(),
            },
        },
    ]);
    assert.deepEqual(alerts, [{ kind: "inconsistency", message: "microphone_missing:caller-1" }]);
    for (const { payload } of events as SessionSyncEvent[]) payload.frontendState.state = "idle";
    assert.equal(sync.getSessionConfig()?.state, "active", "what is told is a copy");
});

test("a moved participant is in its new room", async (t) => {
    const { room, sync, session, tick } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("text"));
    await tick(1_000);
    room.move("room-9");
    assert.equal(session().roomId, "room-9");
    assert(sync.validateSessionState().isValid);
});

test("closed, it leaves no listener and no timer behind, and touches the microphone no more", async (t) => {
    const { room, sync, events, tick } = bench(t);
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("voice-ptt"));
    sync.close();
    assert.equal(room.listening, 0);
    room.drop();
    await tick(60_000);
    assert.deepEqual(events, []);
});

test("a callback that throws changes nothing", async (t) => {
    const logged = t.mock.method(console, "error", () => undefined);
    const { room, sync, session, tick } = bench(t);
    sync.setSessionSyncEventCallback(() => {
        throw new Error("in a view");
    });
    await room.connect();
    sync.setSessionConfig(sessionConfigOf("text", { turnDetection: "server" }));
    await tick(1_000);
    assert.equal(session().turnDetection, "none");
    assert(logged.mock.callCount() > 0);
});

test("metadata that is not the service's is no metadata, and odd members are as the type says", () => {
    const long = JSON.stringify({ ...roomConfigOf("a", "text"), pad: "x".repeat(70_000) });
    for (const text of [undefined, "", "x", "[]", "null", "7", '{"sessionId":7}', '{"sessionId":"a"}', long]) {
        assert.equal(readRoomMetadata(text), null);
    }
    const wrong = { turnDetection: "psychic", dynacast: "yes", audioSettings: 7 };
    const odd = { sessionId: "a", sessionType: "voice-ptt", ...wrong };
    assert.deepEqual(readRoomMetadata(JSON.stringify({ ...odd, more: 1 })), roomConfigOf("a", "voice-ptt"));
    const own = { ...roomConfigOf("a", "voice-vad"), dynacast: false };
    assert.deepEqual(readRoomMetadata(JSON.stringify(own)), own);
});

test("livekit-client's own room fits, and is left with no listener of ours", async () => {
    const room = new Room(roomOptionsOf(roomConfigOf("a", "voice-vad")));
    const fits: RoomLike = room;
    const before = count(room);
    const sync = new SessionSync(fits);
    const events: SessionSyncEvent[] = [];
    sync.setSessionSyncEventCallback((event) => events.push(event));
    sync.setSessionConfig(sessionConfigOf("voice-vad"));
    sync.syncSessionState();
    assert.equal(sync.getSessionConfig()?.state, "error", "it is not connected");
    assert.equal(events.at(-1)?.payload.roomState?.state, "idle");
    assert(count(room) > before);
    sync.close();
    assert.equal(count(room), before);
});

function count(room: Room): number {
    const emitter = room as unknown as { eventNames(): string[]; listenerCount(name: string): number };
    return emitter.eventNames().reduce((sum, name) => sum + emitter.listenerCount(name), 0);
}
