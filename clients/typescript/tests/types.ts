/** What the compiler takes and what it refuses: this file is compiled and never run. */
import { type Result, SessionManager, type types } from "../src/index.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>): void => undefined;

export async function checked(manager: SessionManager, id: string): Promise<void> {
    same<Result<"POST /sessions">, types.Session>(true);
    same<Result<"POST /sessions/{id}/entries">, types.Receipt>(true);
    const page = await manager.call("GET /sessions/{id}/entries", { path: { id }, query: { order: "desc" } });
    same<typeof page, types.EntryPage>(true);
    await manager.call("GET /health");
    await manager.call("GET /sessions", { query: { status: "active", "metadata.queue": "billing" } });
    // @ts-expect-error no such operation
    await manager.call("POST /nothing");
    // @ts-expect-error the path needs its id
    await manager.call("GET /sessions/{id}");
    // @ts-expect-error an id is a text
    await manager.call("GET /sessions/{id}", { path: { id: 7 } });
    // @ts-expect-error no such status
    await manager.call("GET /sessions", { query: { status: "sleeping" } });
    // @ts-expect-error no such parameter
    await manager.call("GET /lookup", { query: { "metadata.queue": "billing" } });
    // @ts-expect-error entries are needed
    await manager.call("POST /sessions/{id}/entries", { path: { id }, body: {} });
    // @ts-expect-error a read takes no body
    await manager.call("GET /sessions/{id}", { path: { id }, body: {} });
}
