import assert from "node:assert/strict";
import { test } from "node:test";
import { ProblemError, isProblem } from "../src/index.js";
import { QUICK, broken, json, never, problem, scripted } from "./scripted.js";

const RECEIPT = { id: "s", version: 3, status: "active", seqs: [5] };
const SAID = [{ type: "message", role: "user", content: "hello" }] as const;

async function failure(promise: Promise<unknown>): Promise<ProblemError> {
    const error = await promise.then(
        () => assert.fail("it was to fail"),
        (reason: unknown) => reason,
    );
    assert(isProblem(error), String(error));
    return error;
}

test("a write without an answer is sent again, under the same key and with the same body", async () => {
    const { manager, seen } = scripted([broken(), problem(503, "outcome-unknown", "repeat"), json(201, RECEIPT)]);
    const receipt = await manager.session("s").append([...SAID]);
    assert.equal(receipt.version, 3);
    assert.equal(seen.length, 3);
    assert.equal(new Set(seen.map((one) => one.headers.get("idempotency-key"))).size, 1);
    assert.match(seen[0]?.headers.get("idempotency-key") ?? "", /^[0-9a-f]{32}$/);
    assert.equal(new Set(seen.map((one) => one.body)).size, 1);
});

test("each write has a key of its own, a read has none, and a key that is given is sent", async () => {
    const { manager, seen } = scripted([json(200, RECEIPT)]);
    const session = manager.session("s");
    await session.append([...SAID]);
    await session.append([...SAID]);
    await session.erase();
    await session.append([...SAID], { key: "mine" });
    await session.read();
    const keys = seen.map((one) => one.headers.get("idempotency-key"));
    assert.equal(new Set(keys.slice(0, 3)).size, 3);
    assert.deepEqual(keys.slice(3), ["mine", null]);
});

for (const remedy of ["fix", "reload", "none"]) {
    test(`what has the remedy ${remedy} is not repeated`, async () => {
        const { manager, seen } = scripted([problem(412, "version-conflict", remedy, { version: 9 })]);
        const error = await failure(manager.session("s").patch({ labels: ["vip"], version: 2 }));
        assert.equal(seen.length, 1);
        assert.equal(error.remedy, remedy);
        assert.equal(error.members.version, 9);
        assert.equal(error.requestId, "r-1");
        assert.equal(error.key, seen[0]?.headers.get("idempotency-key"));
    });
}

test("whether to wait for the floor or for services is the caller's to say", async () => {
    for (const type of ["floor-taken", "join-timeout"]) {
        const { manager, seen } = scripted([problem(409, type, "wait", {}, { "retry-after": "1" })]);
        const error = await failure(manager.call("POST /sessions/{id}/floor", { path: { id: "s" }, body: {} }));
        assert.equal(error.type, type);
        assert.equal(seen.length, 1);
    }
});

test("tries are bounded", async () => {
    const { manager, seen } = scripted([problem(503, "contended", "wait")], { retry: { ...QUICK, triesMax: 4 } });
    assert((await failure(manager.session("s").read())).is("contended"));
    assert.equal(seen.length, 4);
});

test("repeats of all calls together are bounded, and earned again by calls", async () => {
    const retry = { ...QUICK, triesMax: 3, burst: 2, share: 0.5 };
    const { manager, seen } = scripted([problem(503, "contended", "wait")], { retry });
    for (let call = 0; call < 4; call += 1) await failure(manager.session("s").read());
    // Two in a row, then every second call has one.
    assert.equal(seen.length, 4 + 2 + 1);
});

test("Retry-After is waited for", async () => {
    const { manager } = scripted([
        problem(429, "rate-limited", "wait", {}, { "retry-after": "1" }),
        json(200, { id: "s" }),
    ]);
    const began = performance.now();
    await manager.session("s").read();
    assert(performance.now() - began >= 990);
});

test("a Retry-After beyond the deadline is thrown at once", async () => {
    const { manager, seen } = scripted([problem(429, "rate-limited", "wait", {}, { "retry-after": "60" })]);
    const error = await failure(manager.session("s").read());
    assert.equal(seen.length, 1);
    assert.equal(error.retryAfterMs, 60_000);
});

test("a read that is not answered in time is timed out, a write is of unknown outcome", async () => {
    const { manager } = scripted([never], { retry: { ...QUICK, tryMs: 20, triesMax: 2 } });
    assert((await failure(manager.session("s").read())).is("timed-out"));
    assert((await failure(manager.session("s").append([...SAID]))).is("outcome-unknown"));
});

test("a call has the time that the service was asked to take, and more", async () => {
    const slow = (_: unknown, signal: AbortSignal) =>
        new Promise<Response>((resolve, reject) => {
            setTimeout(() => resolve(json(200, { id: "s" })), 120);
            signal.addEventListener("abort", () => reject(signal.reason as Error));
        });
    const { manager, seen } = scripted([slow], { retry: { ...QUICK, tryMs: 20, deadlineMs: 60 } });
    assert((await failure(manager.session("s").read())).is("timed-out"));
    seen.length = 0;
    await manager.session("s").read({}, { moreMs: 2_000 });
    assert.equal(seen.length, 1);
});

test("a write that may stand stays of unknown outcome, whatever keeps the repeat from being answered", async () => {
    const { manager } = scripted([broken(), problem(401, "unauthenticated", "fix")]);
    const error = await failure(manager.session("s").append([...SAID]));
    assert(error.is("outcome-unknown"));
    assert(error.mayStand);
});

test("a definite refusal after a lost answer says that the write may stand", async () => {
    const { manager } = scripted([broken(), problem(409, "floor-lost", "fix", { number: 4 })]);
    const error = await failure(manager.session("s").append([...SAID]));
    assert(error.is("floor-lost"));
    assert(error.mayStand);
});

test("whoever gives tokens hears once of one that was refused", async () => {
    const asked: (string | undefined)[] = [];
    const token = (refused: string | undefined): string => {
        asked.push(refused);
        return refused === undefined ? "old" : "new";
    };
    const { manager, seen } = scripted([problem(401, "unauthenticated", "fix"), json(200, { id: "s" })], { token });
    await manager.session("s").read();
    assert.deepEqual(asked, [undefined, "old"]);
    assert.deepEqual(
        seen.map((one) => one.headers.get("authorization")),
        ["Bearer old", "Bearer new"],
    );
    const never = scripted([problem(401, "unauthenticated", "fix")], { token });
    assert((await failure(never.manager.session("s").read())).is("unauthenticated"));
    assert.equal(never.seen.length, 2);
    asked.length = 0;
    const refused = problem(401, "unauthenticated", "fix");
    const again = scripted([refused, problem(503, "contended", "wait"), refused], { token });
    assert((await failure(again.manager.session("s").read())).is("unauthenticated"));
    assert.deepEqual(asked, [undefined, "old"]);
});

test("an aborted signal ends a call and its pauses with the signal's reason", async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const { manager } = scripted([problem(429, "rate-limited", "wait", {}, { "retry-after": "4" })]);
    const call = manager.session("s").read({}, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    await assert.rejects(call, reason);
});

test("what was seen of a session is never read older", async () => {
    const tag = (version: number) => ({ etag: `"v${version}"` });
    const { manager, seen } = scripted([
        json(201, RECEIPT, tag(3)),
        json(200, { id: "s", version: 2 }, tag(2)),
        json(200, { id: "s", version: 3 }, tag(3)),
        json(200, { id: "s", version: 7 }, tag(7)),
        problem(404, "not-found", "fix"),
        json(200, { id: "s", version: 7 }, tag(7)),
    ]);
    const session = manager.session("s");
    await session.append([...SAID]);
    assert.equal((await session.read()).version, 3);
    assert.equal((await session.read()).version, 7);
    assert.equal((await session.read()).version, 7);
    assert.deepEqual(
        seen.map((one) => one.headers.get("min-version")),
        [null, null, "3", null, null, "7"],
    );
});

test("a service that has gone back behind what it told is believed at the next read", async () => {
    const tag = (version: number) => ({ etag: `"v${version}"` });
    const { manager } = scripted([
        json(201, RECEIPT, tag(9)),
        json(200, { id: "s", version: 2 }, tag(2)),
        problem(412, "min-version-ahead", "fix", { version: 2 }),
        json(200, { id: "s", version: 2 }, tag(2)),
    ]);
    const session = manager.session("s");
    await session.append([...SAID]);
    assert((await failure(session.read())).is("min-version-ahead"));
    assert.equal((await session.read()).version, 2);
});

test("an id is one part of a path, whatever stands in it", async () => {
    const { manager, seen } = scripted([json(200, { id: "s" })], { baseUrl: "http://service.test/under/" });
    await manager.session("a/../b?c#d").read({ entries: 5 });
    assert.equal(seen[0]?.url, "http://service.test/under/sessions/a%2F..%2Fb%3Fc%23d?entries=5");
    for (const id of ["", ".", ".."]) assert((await failure(manager.session(id).read())).is("malformed"));
    assert.equal(seen.length, 1);
});

test("what a proxy answers in its own words is told from what the service says", async () => {
    const page = (status: number, type = "text/html") =>
        new Response("<h1>no</h1>", { status, headers: { "content-type": type } });
    const retry = { ...QUICK, triesMax: 1 };
    for (const [answer, read, write] of [
        [page(502), "unreachable", "outcome-unknown"],
        [page(504, "application/json"), "timed-out", "outcome-unknown"],
        [page(503), "unreachable", "unreachable"],
        [page(302), "not-ours", "not-ours"],
        [page(200, "application/json"), "not-ours", "not-ours"],
    ] as const) {
        const { manager } = scripted([answer], { retry });
        assert.equal((await failure(manager.session("s").read())).type, read);
        assert.equal((await failure(manager.session("s").append([...SAID]))).type, write);
    }
});

test("no token is in what an error says", async () => {
    const { manager } = scripted([problem(403, "forbidden", "fix")], { token: "very-secret" });
    const error = await failure(manager.session("s").read());
    assert(!`${error.stack} ${JSON.stringify(error)}`.includes("very-secret"));
});
