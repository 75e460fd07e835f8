/** What people get wrong is said in words that lead out of it, and nothing that is printed shows a token. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { type ProblemError, SessionManager, type Token, isProblem } from "../src/index.js";
import { QUICK, json, scripted } from "./scripted.js";

const RECEIPT = { id: "s", version: 3, status: "active", seqs: [5] };
const SECRET = "very-secret";

async function failure(promise: Promise<unknown>): Promise<ProblemError> {
    const error = await promise.then(
        () => assert.fail("it was to fail"),
        (reason: unknown) => reason,
    );
    assert(isProblem(error), String(error));
    return error;
}

test("a token that no header takes is refused at once, without showing it", async () => {
    for (const token of ["", `${SECRET}\n`, `Bearer ${SECRET}`, `${SECRET}€`, undefined, () => ""]) {
        const { manager, seen } = scripted([json(200, RECEIPT)], { token: token as Token });
        const session = manager.session("s");
        for (const call of [session.suspend(), session.read(), session.events()[Symbol.asyncIterator]().next()]) {
            const error = await failure(call);
            assert.equal(error.type, "unauthenticated");
            assert.match(error.message, /nothing was sent/);
            assert(!inspect(error).includes(SECRET));
        }
        assert.equal(seen.length, 0);
    }
});

test("a write that never left is not told as one whose outcome is unknown, and the address is named", async () => {
    for (const code of ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"]) {
        const refused = new TypeError("fetch failed", { cause: Object.assign(new Error("no"), { code }) });
        const { manager } = scripted([refused], { retry: { ...QUICK, triesMax: 1 } });
        const error = await failure(manager.session("s").suspend());
        assert.equal(error.type, "unreachable");
        assert.match(error.message, /nobody answers at http:\/\/service\.test/);
    }
    const broken = new TypeError("fetch failed", { cause: Object.assign(new Error("no"), { code: "ECONNRESET" }) });
    const { manager } = scripted([broken], { retry: { ...QUICK, triesMax: 1 } });
    assert.equal((await failure(manager.session("s").suspend())).type, "outcome-unknown");
});

test("an address that is none is refused when the client is made", () => {
    for (const baseUrl of ["", "127.0.0.1:8000", "localhost", "ftp://a", "http://", "http://a:b@c", "http://a?b"]) {
        assert.throws(() => new SessionManager({ baseUrl, token: "t" }), /http\(s\):\/\/host\[:port\]\[\/prefix\]/, baseUrl);
    }
    for (const baseUrl of ["http://a", "https://a.b:1/", "http://[::1]:8000/under/here"]) {
        new SessionManager({ baseUrl, token: "t" });
    }
});

test("neither printing what there is nor making JSON of it shows a token", async () => {
    const participant = { id: "par_1", kind: "agent", identity: "bot", status: "attached", last_seen_version: 0 };
    const joined = { session_id: "s", version: 4, participant, token: `${SECRET}-of-the-participant`, livekit: null };
    const { manager } = scripted([json(201, joined)], { token: SECRET });
    const session = manager.session("s");
    const me = await session.join({ kind: "agent", identity: "bot" });
    for (const one of [manager, session, me, me.session, session.events(), manager.withToken(`${SECRET}-2`)]) {
        assert(!`${inspect(one, { depth: 8, showHidden: true })}${JSON.stringify(one)}`.includes(SECRET));
    }
    assert.equal(me.joined.token, `${SECRET}-of-the-participant`);
    await me.leave();
});
