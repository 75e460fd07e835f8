import assert from "node:assert/strict";
import { test } from "node:test";
import { type Feed, type SessionEvent, isProblem } from "../src/index.js";
import { broken, entry, event, feed, hello, json, problem, scripted, type Step } from "./scripted.js";

const AGAIN = "retry: 1\n";
const BYE = event("erased", { after: 99 });

/** All that a feed gives until it throws, as short words, and what it throws. */
async function told(given: Feed<SessionEvent>): Promise<[string[], unknown]> {
    const words: string[] = [];
    try {
        for await (const one of given) {
            words.push(
                one.kind === "entry"
                    ? String(one.entry.seq)
                    : one.kind === "signal"
                      ? one.signal.type
                      : `resync ${one.resync.after}`,
            );
        }
    } catch (error) {
        return [words, error];
    }
    return [words, undefined];
}

function lasts(steps: Step[], options: Parameters<typeof scripted>[1] = {}) {
    return scripted([...steps, feed([BYE])], options);
}

test("a feed goes on after the last entry, without a gap and without a repeat, however it was cut", async () => {
    const { manager, seen } = lasts([
        feed([AGAIN + hello(0) + entry(1) + entry(2), "id: 3\nevent: mess"]),
        feed([hello(2), entry(2), entry(3)], "broken"),
        broken(),
        problem(503, "draining", "wait"),
        feed([hello(3) + entry(4)]),
    ]);
    const [words, error] = await told(manager.session("s").events({ after: 0 }));
    assert.deepEqual(words, ["1", "2", "3", "4"]);
    assert(isProblem(error, "erased"));
    assert.deepEqual(
        seen.map((one) => one.headers.get("last-event-id")),
        ["0", "2", "3", "3", "3", "4"],
    );
});

test("a feed from now remembers where now was", async () => {
    const { manager, seen } = lasts([feed([AGAIN + hello(16)]), feed([hello(16), entry(17)])]);
    const [words] = await told(manager.session("s").events());
    assert.deepEqual(words, ["17"]);
    assert.deepEqual(
        seen.map((one) => one.headers.get("last-event-id")),
        [null, "16", "17"],
    );
});

test("signals are given and are no place in the log", async () => {
    const signal = event("signal", { type: "typing", ephemeral: true, at: "…", actor: "alice" });
    const { manager, seen } = lasts([feed([AGAIN + hello(4) + signal + entry(5) + signal])]);
    const [words] = await told(manager.session("s").events({ after: 4 }));
    assert.deepEqual(words, ["typing", "5", "typing"]);
    assert.equal(seen[1]?.headers.get("last-event-id"), "5");
});

test("a place beyond the log is told, and the feed goes on from where the log is", async () => {
    const resync = event("resync", { reason: "ahead", location: "/sessions/s", after: 7 });
    const { manager, seen } = lasts([feed([AGAIN + hello(7) + resync + entry(8)]), feed([hello(8) + entry(9)])]);
    const [words] = await told(manager.session("s").events({ after: 1000 }));
    assert.deepEqual(words, ["resync 7", "8", "9"]);
    assert.deepEqual(
        seen.map((one) => one.headers.get("last-event-id")),
        ["1000", "8", "9"],
    );
});

test("after goaway a feed comes back at the time that it was told", async () => {
    const { manager, seen } = lasts([
        feed([hello(0) + entry(1) + event("goaway", { reason: "draining", after: 1, retry_ms: 300 })], "silent"),
    ]);
    const began = performance.now();
    const [words] = await told(manager.session("s").events({ after: 0 }));
    assert.deepEqual(words, ["1"]);
    assert.equal(seen[1]?.headers.get("last-event-id"), "1");
    assert(performance.now() - began >= 290);
});

test("a token that is over is replaced, and the feed goes on from the same place", async () => {
    const asked: (string | undefined)[] = [];
    const token = (refused: string | undefined): string => {
        asked.push(refused);
        return `t${asked.length}`;
    };
    const steps = [
        feed([hello(0) + entry(1) + event("expired", { after: 1 })], "silent"),
        problem(401, "unauthenticated", "fix"),
        feed([hello(1) + entry(2)]),
    ];
    const { manager, seen } = lasts(steps, { token });
    const [words] = await told(manager.session("s").events({ after: 0 }));
    assert.deepEqual(words, ["1", "2"]);
    assert.deepEqual(asked.slice(0, 3), [undefined, "t1", "t2"]);
    assert.deepEqual(
        seen.slice(0, 3).map((one) => one.headers.get("authorization")),
        ["Bearer t1", "Bearer t2", "Bearer t3"],
    );
});

test("a token that cannot be replaced ends the feed with the cursor to go on from", async () => {
    const { manager } = scripted([feed([hello(0) + entry(1) + event("expired", { after: 1 })], "silent")]);
    const given = manager.session("s").events({ after: 0 });
    const [words, error] = await told(given);
    assert.deepEqual(words, ["1"]);
    assert(isProblem(error, "unauthenticated"));
    assert.equal(given.cursor, 1);
});

test("a second refusal of a token in a row stands", async () => {
    const { manager, seen } = scripted([problem(401, "unauthenticated", "fix")], { token: () => "t" });
    const [, error] = await told(manager.session("s").events());
    assert(isProblem(error, "unauthenticated"));
    assert.equal(seen.length, 2);
});

test("a feed that is silent for longer than its heartbeats is opened anew", async () => {
    const { manager, seen } = lasts([feed([AGAIN + hello(0, 0.1) + entry(1)], "silent")]);
    const began = performance.now();
    const [words, error] = await told(manager.session("s").events({ after: 0 }));
    assert.deepEqual(words, ["1"]);
    assert(isProblem(error, "erased"));
    assert.equal(seen.length, 2);
    assert(performance.now() - began >= 990);
});

test("a slow reader is not taken for a silent service", async () => {
    const { manager, seen } = lasts([feed([AGAIN + hello(0, 0.1), entry(1), entry(2)], "silent")]);
    const seqs: number[] = [];
    const read = async (): Promise<void> => {
        for await (const one of manager.session("s").events({ after: 0 })) {
            if (one.kind === "entry") seqs.push(one.entry.seq);
            await new Promise((resolve) => setTimeout(resolve, 1_200));
        }
    };
    await assert.rejects(read(), (error) => isProblem(error, "erased"));
    assert.deepEqual(seqs, [1, 2]);
    assert.equal(seen.length, 2);
});

test("a service that stays away is given up when the patience is over", async () => {
    const { manager } = scripted([feed([AGAIN + hello(0)]), broken()]);
    const [, error] = await told(manager.session("s").events({ after: 0, patienceMs: 30 }));
    assert(isProblem(error, "unreachable"));
});

test("what the service refuses ends the feed", async () => {
    for (const answer of [problem(404, "not-found", "fix"), problem(410, "erased", "fix"), json(200, {})]) {
        const { manager, seen } = scripted([answer]);
        const [words, error] = await told(manager.session("s").events());
        assert.deepEqual(words, []);
        assert(isProblem(error, "not-found", "erased", "not-ours"));
        assert.equal(seen.length, 1);
    }
});

test("whoever leaves has ended the connection, and may go on later", { timeout: 5_000 }, async () => {
    const cuts: AbortSignal[] = [];
    const { manager, seen } = scripted([
        (request, signal) => {
            cuts.push(signal);
            return (feed([hello(0) + entry(1) + entry(2)], "silent") as (...given: unknown[]) => Response)(
                request,
                signal,
            );
        },
        feed([hello(1) + entry(2)], "silent"),
    ]);
    const given = manager.session("s").events({ after: 0 });
    for await (const one of given) {
        assert(one.kind === "entry" && one.entry.seq === 1);
        break;
    }
    assert(cuts[0]?.aborted);
    assert.equal(given.cursor, 1);
    for await (const one of given) {
        assert(one.kind === "entry" && one.entry.seq === 2);
        setTimeout(() => given.close(), 10);
    }
    assert.equal(seen[1]?.headers.get("last-event-id"), "1");
});

test("a signal ends a feed that waits, with its reason", { timeout: 5_000 }, async () => {
    const { manager } = scripted([feed([hello(0)], "silent")]);
    const controller = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 20);
    const [, error] = await told(manager.session("s").events({ signal: controller.signal }));
    assert.equal(error, reason);
});

test("an event of a tenant is given once though connections overlap", async () => {
    const moved = (seq: number) =>
        event("session.created", { id: `s:${seq}`, type: "session.created", subject: "s", data: {} }, `c${seq}`);
    const { manager, seen } = scripted([
        feed([AGAIN + hello("c0") + moved(1) + moved(2)]),
        feed([hello("c2") + moved(1) + moved(2) + moved(3)]),
        problem(403, "forbidden", "fix"),
    ]);
    const ids: string[] = [];
    const read = async (): Promise<void> => {
        for await (const one of manager.events({ types: "session.*" }))
            if (one.kind === "event") ids.push(one.event.id);
    };
    await assert.rejects(read(), (error) => isProblem(error, "forbidden"));
    assert.deepEqual(ids, ["s:1", "s:2", "s:3"]);
    assert.equal(seen[0]?.url, "http://service.test/events?types=session.*");
    assert.deepEqual(
        seen.map((one) => one.headers.get("last-event-id")),
        [null, "c2", "c3"],
    );
});
