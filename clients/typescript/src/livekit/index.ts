/** A session and its LiveKit room, in a front end. Works with `livekit-client`'s `Room`, and depends on nothing. */
export {
    type AudioSettings,
    type LiveKitRoomConfig,
    type SessionConfig,
    type SessionState,
    type SessionSyncEvent,
    type SessionSyncEventType,
    type SessionType,
    type SessionValidationResult,
    type TurnDetection,
    type VoiceMode,
    getExpectedTurnDetection,
    roomConfigOf,
    roomOptionsOf,
    sessionConfigOf,
    settingsOf,
    wantsMicrophone,
} from "./config.js";
export { readRoomMetadata } from "./metadata.js";
export type { ConnectionState, JoinableRoom, LocalMicrophone, RoomEventName, RoomLike } from "./room.js";
export { SimulatedRoom } from "./simulated.js";
export { FIRST_SYNC_MS, SessionSync, type SessionSyncAlert, type SessionSyncOptions, VALIDATION_MS } from "./sync.js";
export { tellService } from "./tell.js";
export {
    type RoomUnderTest,
    SCENARIOS,
    type ScenarioBench,
    type ScenarioResult,
    type SessionSyncScenario,
    SessionSynchronizationTester,
    type TesterOptions,
    runQuickSessionTest,
    simulated,
} from "./tester.js";
