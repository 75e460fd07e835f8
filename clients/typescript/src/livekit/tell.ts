/** The way from a front end to the service: what is set here becomes the session's, and the room's by the service. */
import type { Session } from "../session.js";
import type { LiveKitRoomConfig } from "./config.js";

/** For `SessionSyncOptions.tell`: the session's `type` is what was set here. Its token must be allowed to patch. */
export function tellService(session: Session): (config: LiveKitRoomConfig) => Promise<void> {
    return async ({ sessionType }) => {
        await session.patch({ type: sessionType }, { ifMatch: "*" });
    };
}
