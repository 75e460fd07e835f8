/**
 * An agent joins a running conversation, catches up, takes the floor, speaks and leaves.
 *
 * SESSIONMANAGER_URL=http://127.0.0.1:8000 SESSIONMANAGER_TOKEN=… node agent_join.js call-4711
 */
import { SessionManager } from "@sessionmanager/client";

const { SESSIONMANAGER_URL: baseUrl = "", SESSIONMANAGER_TOKEN: token = "" } = process.env;
const manager = new SessionManager({ baseUrl, token });
const me = await manager.session(process.argv[2] ?? "").join({ kind: "agent", identity: "support-bot" });
try {
    // A window that the model's API accepts, whatever happened before: it is what the agent has to catch up with.
    const window = await me.session.context({ for: "openai" });
    console.log(`${me.id} joined at version ${me.version} and read ${window.messages?.length ?? 0} messages`);
    // Whoever speaks now is waited for; what is said with an old number is never taken.
    const floor = await me.floor({ policy: "queue", waitMs: 30_000 });
    const said = await floor.say("Yes, in two parts. Shall I set that up?");
    console.log(`spoke with floor ${floor.number}; the session is at version ${said.version}`);
    await floor.release();
} finally {
    await me.leave();
}
