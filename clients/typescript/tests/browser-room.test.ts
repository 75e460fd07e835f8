/**
 * A session and its room in a browser with a microphone that is a fake, on a real LiveKit server, kept by a real
 * service: needs Chromium, and the addresses of both.
 */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { test } from "node:test";
import { NO_BROWSER, visited } from "./page.js";
import { ADDRESS, SERVED, TOKEN } from "./service.js";

const { LIVEKIT_URL = "", LIVEKIT_API_KEY = "", LIVEKIT_API_SECRET = "" } = process.env;
const NO_LIVEKIT = LIVEKIT_URL === "" ? "needs a LiveKit server: LIVEKIT_URL" : false;
const NEEDS = { skip: SERVED.skip || NO_BROWSER || NO_LIVEKIT, timeout: 180_000 };
const SCRIPT = "/livekit-client.umd.js";
// A microphone that beeps, and nobody who has to allow it. Browsers leave loopback out of where media may go.
const FLAGS = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--autoplay-policy=no-user-gesture-required",
];

/** For a room that no session owns. */
function tokenFor(room: string): string {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const claims = {
        iss: LIVEKIT_API_KEY,
        sub: "tester",
        nbf: now - 10,
        exp: now + 600,
        video: { roomJoin: true, room, canPublish: true, canSubscribe: true },
    };
    const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
    return `${signed}.${createHmac("sha256", LIVEKIT_API_SECRET).update(signed).digest("base64url")}`;
}

function run(script: string): Promise<unknown> {
    return visited(COMMON + script, { [SCRIPT]: createRequire(import.meta.url).resolve("livekit-client") }, FLAGS);
}

const COMMON = `
import { SessionManager } from "./src/index.js";
import * as sm from "./src/livekit/index.js";
  const { SessionSync, SessionSynchronizationTester, roomOptionsOf, roomConfigOf, sessionConfigOf, tellService } = sm;
  const { Room, RoomEvent, Track } = LivekitClient;
  const until = async (holds, what) => {
    const giveUpAt = performance.now() + 30_000;
    while (!(await holds())) {
      if (performance.now() > giveUpAt) throw new Error(what + " did not come about");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const next = (room, event) => new Promise((resolve) => room.once(event, resolve));
`;

test("the four scenarios hold on livekit-client's own room and a real server", NEEDS, async () => {
    const rooms = [0, 1, 2, 3].map((count) => tokenFor(`scenario-${process.pid}-${count}`));
    const told = await run(`
  const tokens = ${JSON.stringify(rooms)};
  const makeRoom = () => {
    const room = new Room(roomOptionsOf(roomConfigOf("none", "voice-vad")));
    const token = tokens.shift();
    let back;
    return {
      room,
      connect: () => room.connect(${JSON.stringify(LIVEKIT_URL)}, token),
      interrupt: async () => {
        back = next(room, RoomEvent.Reconnected);
        const gone = Promise.race([next(room, RoomEvent.SignalReconnecting), next(room, RoomEvent.Reconnecting)]);
        await room.simulateScenario("signal-reconnect");
        await gone;
      },
      recover: () => back,
      drop: () => room.disconnect(),
      dispose: () => room.disconnect(),
    };
  };
  const results = await new SessionSynchronizationTester({ makeRoom, patienceMs: 30_000 }).runAllTests();
  told.results = results.map((one) => one.passed ? one.name : one.name + ": " + one.error);
`);
    const names = [
        "Basic Session Sync",
        "Voice Session with Turn Detection",
        "Connection Interruption Recovery",
        "Session State Validation",
    ];
    assert.deepEqual(told, { results: names });
});

test("a session, its room and its service agree, whichever of them changes", NEEDS, async () => {
    const told = await run(`
  const manager = new SessionManager({ baseUrl: ${JSON.stringify(ADDRESS)}, token: ${JSON.stringify(TOKEN)} });
  const { session } = await manager.create({ type: "voice-vad", room: true });
  const me = await session.join({ kind: "client", identity: "browser" });
  const { url, token } = me.joined.livekit;
  const room = new Room(roomOptionsOf(roomConfigOf(session.id, "voice-vad")));
  const events = [];
  const alerts = [];
  const onAlert = (alert) => alerts.push(alert.kind);
  const sync = new SessionSync(room, { sessionId: session.id, tell: tellService(session), validationMs: 500, onAlert });
  sync.setSessionSyncEventCallback((event) => events.push(event));
  await room.connect(url, token);
  await until(() => sync.getRoomConfig()?.sessionId === session.id || room.metadata, "metadata");
  sync.setSessionConfig(sessionConfigOf("voice-vad"));
  const microphone = () => room.localParticipant.getTrackPublication(Track.Source.Microphone);
  await until(() => room.localParticipant.isMicrophoneEnabled, "an open microphone");
  told.audio = microphone().track.mediaStreamTrack.getSettings().echoCancellation;
  await until(async () => (await session.read()).room.inconsistencies.length === 0, "agreement");
  await until(() => events.some((one) => one.payload.trigger === "initial"), "first sync");
  told.initial = sync.validateSessionState().isValid && sync.current.roomId === room.name;

  const back = next(room, RoomEvent.Reconnected);
  await room.simulateScenario("signal-reconnect");
  await back;
  told.interrupted = events.some((one) => one.type === "connection_interruption");
  await until(() => sync.current.state === "active", "an active session");

  await session.patch({ type: "text" }, { ifMatch: "*" });
  await until(() => sync.current.type === "text" && !room.localParticipant.isMicrophoneEnabled, "a text session");

  sync.updateSession({ type: "voice-ptt" });
  await until(async () => (await session.read()).type === "voice-ptt", "a session that talks");
  await until(() => JSON.parse(room.metadata).sessionType === "voice-ptt", "metadata of it");
  await until(() => sync.validateSessionState().isValid && microphone()?.isMuted === true, "a muted track");
  sync.updateSession({ isMuted: false });
  await until(() => room.localParticipant.isMicrophoneEnabled, "a voice while the button is held");
  sync.updateSession({ isMuted: true });
  await until(() => !room.localParticipant.isMicrophoneEnabled, "silence");
  await until(async () => (await session.read()).room.inconsistencies.length === 0, "agreement again");
  told.type = [sync.current.type, sync.current.turnDetection, sync.current.isMuted];
  told.fromService = events.some((one) => one.payload.roomState?.roomSid !== undefined);

  const gone = next(room, RoomEvent.Disconnected);
  sync.updateSession({ state: "ending" });
  await session.end("done");
  await gone;
  told.end = sync.current.state;
  told.alerts = alerts;
`);
    assert.deepEqual(told, {
        audio: true,
        initial: true,
        interrupted: true,
        type: ["voice-ptt", "client", true],
        fromService: true,
        end: "idle",
        alerts: [],
    });
});
