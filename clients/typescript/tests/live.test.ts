import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { test } from "node:test";
import { isProblem } from "../src/index.js";
import { ADDRESS, SERVED, TOKEN, fresh, manager, message, until } from "./service.js";

const CUTS = 40;

/** A way to the service that breaks each feed after a few pieces, and lets it come back at once. */
function breaking(counted: { cuts: number }): typeof globalThis.fetch {
    return async (input, init) => {
        const answer = await globalThis.fetch(input, init);
        if (!String(input).includes("/events") || answer.body === null || counted.cuts >= CUTS) return answer;
        let left = 1 + Math.floor(Math.random() * 4);
        const broken = answer.body.pipeThrough(
            new TransformStream<Uint8Array, Uint8Array>({
                transform(piece, controller) {
                    if (left === 0) {
                        counted.cuts += 1;
                        // Half of a piece comes through, so that events are cut, too.
                        controller.enqueue(piece.slice(0, piece.length >> 1));
                        controller.error(new TypeError("the connection broke"));
                    } else {
                        left -= 1;
                        const text = new TextDecoder().decode(piece).replace(/^retry: \d+/m, "retry: 1");
                        controller.enqueue(new TextEncoder().encode(text));
                    }
                },
            }),
        );
        return new Response(broken, answer);
    };
}

test("a feed whose connections break gives every entry once and in order", SERVED, async () => {
    const counted = { cuts: 0 };
    const session = await fresh(manager({ fetch: breaking(counted) }));
    const seqs: number[] = [];
    const feed = session.events({ after: 0 });
    const reading = (async () => {
        for await (const one of feed) if (one.kind === "entry") seqs.push(one.entry.seq);
    })();
    let last = 0;
    while (counted.cuts < CUTS) {
        last = (await session.append(message("word"))).seqs?.at(-1) ?? last;
    }
    await until(() => seqs.at(-1) === last);
    feed.close();
    await reading;
    assert.deepEqual(
        seqs,
        Array.from({ length: last }, (_, index) => index + 1),
    );
});

test("a feed tells of signals, and of a session that is erased", SERVED, async () => {
    const session = await fresh();
    const heard: unknown[] = [];
    const feed = session.events();
    const reading = (async () => {
        for await (const one of feed) if (one.kind === "signal") heard.push(one.signal.data);
    })();
    const over = assert.rejects(reading, (error) => isProblem(error, "erased"));
    await until(() => feed.cursor !== undefined);
    await session.signal("partial", { text: "hel" });
    await until(() => heard.length > 0);
    await session.erase();
    await over;
    assert.deepEqual(heard, [{ text: "hel" }]);
});

test("the tenant's feed tells of a session that was made", SERVED, async () => {
    const at = manager();
    const controller = new AbortController();
    let made: string | undefined;
    const types: string[] = [];
    const feed = at.events({ types: "session.*", signal: controller.signal });
    const reading = (async () => {
        for await (const one of feed) {
            if (one.kind === "event" && one.event.subject === made) types.push(one.event.type);
        }
    })();
    const over = assert.rejects(reading, /enough/);
    await until(() => feed.cursor !== undefined);
    made = (await fresh(at)).id;
    await until(() => types.length > 0);
    controller.abort(new Error("enough"));
    await over;
    assert.equal(types[0], "session.created");
});

test("a participant joins, catches up, leaves and comes back as itself", SERVED, async () => {
    const session = await fresh();
    await session.append([message("one"), message("two")]);
    const me = await session.join({ kind: "agent", identity: "bot", lease_seconds: 30 });
    await me.saw(me.version);
    const { version } = await session.append(message("three"));
    assert.deepEqual(
        (await me.missed()).filter((entry) => entry.type === "message").map((entry) => entry.content),
        ["three"],
    );
    assert((await me.missed()).every((entry) => entry.version > me.version));
    assert.deepEqual((await me.missed(0)).filter((entry) => entry.type === "message").length, 3);
    await me.beat();
    await me.leave();
    await assert.rejects(me.session.append(message("void")), (error) =>
        isProblem(error, "unauthenticated", "forbidden", "not-found"),
    );
    const back = await session.join({ kind: "agent", identity: "bot" });
    assert.equal(back.id, me.id);
    assert(back.version > version);
    await back.leave();
});

test("a token of a participant is made anew when it is over", SERVED, async () => {
    const session = await fresh();
    const me = await session.join({ kind: "agent", identity: "bot", token_seconds: 1, lease_seconds: 30 });
    const given = me.session.manager.caller.token as (refused?: string) => Promise<string>;
    const first = await given();
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    await me.session.append(message("still here"));
    assert.notEqual(await given(), first);
    await me.leave();
});

test("whoever is taken out hears of it at the next heartbeat", SERVED, async () => {
    const session = await fresh();
    const me = await session.join({ kind: "agent", identity: "bot", lease_seconds: 5, token_seconds: 60 });
    await session.manager.call("DELETE /sessions/{id}/participants/{pid}", { path: { id: session.id, pid: me.id } });
    await until(() => me.gone.aborted);
    await me.leave();
});

test("one speaks at a time: a queue is waited for, and the floor that was taken is lost", SERVED, async () => {
    const session = await fresh();
    await session.patch({ floor: "required" }, { ifMatch: "*" });
    const one = await session.join({ kind: "agent", identity: "one" });
    const other = await session.join({ kind: "agent", identity: "other" });
    const first = await one.floor({ leaseSeconds: 5 });
    await first.say("mine");
    await assert.rejects(other.floor(), (error) => isProblem(error, "floor-taken") && error.members.holder === one.id);
    await assert.rejects(other.floor({ policy: "queue", waitMs: 50 }), (error) => isProblem(error, "floor-taken"));
    const waiting = other.floor({ policy: "queue", waitMs: 20_000 });
    await first.release();
    const second = await waiting;
    assert(second.number > first.number);
    const third = await one.floor({ policy: "interrupt" });
    await assert.rejects(second.say("too late"), (error) => isProblem(error, "floor-lost"));
    assert(second.lost.aborted);
    await third.say("now I");
    await Promise.all([third.release(), one.leave(), other.leave()]);
});

test("a floor is held for longer than its lease, and nobody is taken for its holder after", SERVED, async () => {
    const session = await fresh();
    const me = await session.join({ kind: "agent", identity: "one" });
    const floor = await me.floor({ leaseSeconds: 1 });
    await new Promise((resolve) => setTimeout(resolve, 1_600));
    assert(!floor.lost.aborted);
    await floor.say("still mine");
    await me.session.manager.call("DELETE /sessions/{id}/floor", {
        path: { id: session.id },
        query: { participant: me.id },
    });
    const others = await session.join({ kind: "agent", identity: "two" });
    const theirs = await others.floor({ leaseSeconds: 30 });
    await until(() => floor.lost.aborted);
    await assert.rejects(floor.say("too late"), (error) => isProblem(error, "floor-lost"));
    await theirs.release();
    await Promise.all([me.leave(), others.leave()]);
});

test("the agent of the examples joins, catches up, takes the floor, speaks and leaves", SERVED, async () => {
    const session = await fresh();
    await session.append(message("Can I pay in two parts?"));
    const program = fileURLToPath(new URL("../examples/agent_join.js", import.meta.url));
    const env = { ...process.env, SESSIONMANAGER_URL: ADDRESS, SESSIONMANAGER_TOKEN: TOKEN };
    const { stdout } = await promisify(execFile)(process.execPath, [program, session.id], { env, timeout: 30_000 });
    assert.match(stdout, /joined at version \d+ and read 1 messages\nspoke with floor \d+/);
    const state = await session.read();
    assert.deepEqual(
        state.entries?.filter((entry) => entry.type === "message").map((entry) => entry.role),
        ["user", "assistant"],
    );
    assert.deepEqual(
        state.participants?.map((participant) => participant.status),
        ["left"],
    );
    assert.equal(state.floor?.holder, null);
});
