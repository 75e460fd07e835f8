/** The hooks, in React's own renderer without a page. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { StrictMode, createElement, useEffect } from "react";
import { type ReactTestRenderer, act, create } from "react-test-renderer";
import {
    AgentProvider,
    type AgentContextValue,
    type LiveKit,
    type Voice,
    useAgent,
    useLiveKit,
    useVoice,
} from "../react/index.js";
import { type SessionSyncEvent, SimulatedRoom, roomConfigOf, sessionConfigOf } from "../src/livekit/index.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

interface Shown {
    agent: AgentContextValue;
    livekit: LiveKit;
    voice: Voice;
}

interface Mounted {
    room: SimulatedRoom;
    /** What the last rendering was given. */
    now: Shown;
    events: SessionSyncEvent[];
    show(room: SimulatedRoom): Promise<void>;
}

const CONFIG = sessionConfigOf("voice-ptt");

async function mounted(t: TestContext, strict = false): Promise<Mounted> {
    // The renderer says that it is deprecated, which is no news of ours.
    t.mock.method(console, "error", (said: unknown) => {
        if (!String(said).includes("react-test-renderer is deprecated")) throw new Error(String(said));
    });
    const shown: { now?: Shown } = {};
    const events: SessionSyncEvent[] = [];
    const View = () => {
        const now = { agent: useAgent(), livekit: useLiveKit(), voice: useVoice() };
        useEffect(() => {
            shown.now = now;
        });
        // Before the provider itself is mounted: effects of children run first.
        const { setSessionConfig } = now.livekit;
        useEffect(() => setSessionConfig(CONFIG), [setSessionConfig]);
        return null;
    };
    const tree = (room: SimulatedRoom) => {
        const onSyncEvent = (one: SessionSyncEvent) => events.push(one);
        const props = { room, options: { firstSyncMs: 60_000 }, onSyncEvent };
        const view = createElement(AgentProvider, props, createElement(View));
        return strict ? createElement(StrictMode, null, view) : view;
    };
    let renderer: ReactTestRenderer | undefined;
    const show = async (room: SimulatedRoom) => {
        await act(async () => {
            if (renderer === undefined) renderer = create(tree(room));
            else renderer.update(tree(room));
        });
    };
    const room = new SimulatedRoom({ name: "room-1" });
    await show(room);
    t.after(async () => act(async () => renderer?.unmount()));
    return {
        room,
        events,
        show,
        get now() {
            return shown.now ?? assert.fail("nothing is shown");
        },
    };
}

for (const strict of [false, true]) {
    test(`a session set by a child is there once it is mounted${strict ? ", in strict mode too" : ""}`, async (t) => {
        const at = await mounted(t, strict);
        assert.equal(at.now.agent.session?.type, "voice-ptt");
        assert.equal(at.now.livekit.connectionState, "disconnected");
        await act(() => at.now.livekit.connect("ws://a", "token"));
        assert.equal(at.now.livekit.isConnected, true);
        assert.deepEqual([at.now.agent.session?.state, at.now.agent.session?.roomId], ["active", "room-1"]);
        assert.equal(at.now.agent.lastSyncEvent?.type, "room_state_change");
        assert.equal(at.now.livekit.getSessionConfig()?.roomId, "room-1");
        assert.equal(at.now.livekit.validateSessionState().isValid, true);
    });
}

test("push-to-talk is heard while the button is held, and the view says so", async (t) => {
    const at = await mounted(t);
    await act(() => at.now.livekit.connect("", ""));
    assert.deepEqual(
        [at.now.voice.isVoiceSession, at.now.voice.voiceMode, at.now.voice.turnDetection, at.now.voice.isMuted],
        [true, "push-to-talk", "client", true],
    );
    await act(async () => at.now.voice.startTalking());
    assert.deepEqual([at.now.voice.isMuted, at.room.localParticipant.isMicrophoneEnabled], [false, true]);
    await act(async () => at.now.voice.stopTalking());
    assert.deepEqual([at.now.voice.isMuted, at.room.localParticipant.isMicrophoneEnabled], [true, false]);
    await act(async () => at.now.voice.toggleMute());
    assert.deepEqual([at.now.voice.isMuted, at.room.localParticipant.isMicrophoneEnabled], [false, true]);
    await act(() => at.room.localParticipant.setMicrophoneEnabled(false));
    assert.equal(at.now.voice.isMuted, true, "what the room says is shown");
});

test("a text session has no voice to open", async (t) => {
    const at = await mounted(t);
    await act(() => at.now.livekit.connect("", ""));
    await act(async () => at.now.livekit.setSessionConfig(sessionConfigOf("text")));
    await act(async () => at.now.voice.setMuted(false));
    assert.deepEqual(
        [at.now.voice.isVoiceSession, at.now.voice.isMuted, at.room.localParticipant.isMicrophoneEnabled],
        [false, true, false],
    );
});

test("the context syncs, validates and corrects, and its events reach both callbacks", async (t) => {
    const at = await mounted(t);
    await act(() => at.now.livekit.connect("", ""));
    const own: SessionSyncEvent[] = [];
    at.now.livekit.setSessionSyncEventCallback((one) => own.push(one));
    await act(async () => at.now.agent.updateSession({ turnDetection: "server" }));
    let found: ReturnType<AgentContextValue["validateAndCorrectSession"]> | undefined;
    await act(async () => {
        found = at.now.agent.validateAndCorrectSession();
    });
    assert.deepEqual(found?.corrections, { turnDetection: "client" });
    assert.equal(at.now.agent.session?.turnDetection, "client");
    assert.equal(at.now.agent.session?.inconsistencyDetected, true);
    await act(async () => at.now.agent.syncSessionWithRoom());
    assert.equal(at.now.agent.lastSyncEvent?.payload.trigger, "manual");
    assert.deepEqual(own, at.events.slice(-own.length));
    assert.deepEqual(
        own.map((one) => one.type),
        ["session_inconsistency", "session_state_sync", "session_state_sync"],
    );
});

test("what the service writes into the room is shown, and so is what the user must know", async (t) => {
    const at = await mounted(t);
    await act(() => at.now.livekit.connect("", ""));
    await act(async () => at.room.setMetadata(JSON.stringify(roomConfigOf("call-4711", "voice-vad"))));
    assert.deepEqual([at.now.voice.voiceMode, at.now.voice.isMuted], ["continuous", false]);
    await act(async () => at.room.drop(9));
    assert.deepEqual([at.now.agent.session?.state, at.now.agent.alert?.kind], ["error", "disconnected"]);
    await act(async () => at.now.agent.dismissAlert());
    assert.equal(at.now.agent.alert, null);
});

test("leaving in good order is no error", async (t) => {
    const at = await mounted(t);
    await act(() => at.now.livekit.connect("", ""));
    await act(() => at.now.livekit.disconnect());
    assert.deepEqual([at.now.agent.session?.state, at.now.agent.alert], ["idle", null]);
});

test("another room takes the session over, and the first is let go", async (t) => {
    const at = await mounted(t);
    await act(() => at.now.livekit.connect("", ""));
    await act(async () => at.now.voice.startTalking());
    const next = new SimulatedRoom({ name: "room-2" });
    await at.show(next);
    assert.equal(at.room.listening, 0);
    await act(() => at.now.livekit.connect("", ""));
    assert.equal(at.now.agent.session?.isMuted, false);
    assert.equal(next.localParticipant.isMicrophoneEnabled, true);
});

test("a hook without its provider says what it needs", (t) => {
    t.mock.method(console, "error", () => undefined);
    const Alone = () => (useVoice(), null);
    assert.throws(() => act(() => void create(createElement(Alone))), /need an AgentProvider around them/);
});
