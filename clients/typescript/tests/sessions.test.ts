import assert from "node:assert/strict";
import { test } from "node:test";
import { type types, isProblem } from "../src/index.js";
import { SERVED, fresh, manager, message } from "./service.js";

test("what is written is read back, with versions and problems as they are", SERVED, async () => {
    const at = manager();
    const session = await fresh(at);
    const content = { text: "héllo 漢字 🦊", parts: [1, 2.5, null, true, "\u2028"] };
    const receipt = await session.append([message(content), message("again")]);
    assert.deepEqual(receipt.seqs?.length, 2);
    const state = await session.read({ entries: 2 });
    assert.equal(state.version, receipt.version);
    assert.deepEqual(
        state.entries?.map((entry) => entry.content),
        [content, "again"],
    );
    const patched = await session.patch({ labels: ["vip"], metadata: { queue: "billing" }, version: state.version });
    assert.deepEqual(patched.labels, ["vip"]);
    const stepped = await session.patch([{ op: "add", path: "/metadata/desk", value: 7 }], { ifMatch: "*" });
    assert.deepEqual(stepped.metadata, { queue: "billing", desk: 7 });
    await assert.rejects(session.patch({ labels: [], version: state.version }), (error) => {
        assert(isProblem(error, "version-conflict"));
        assert.equal(error.remedy, "reload");
        assert.equal(error.members.version, stepped.version);
        return true;
    });
    await assert.rejects(session.patch({ labels: [] }), (error) => isProblem(error, "precondition-required"));
    const known = await at.ask("GET /sessions/{id}", {
        path: { id: session.id },
        headers: { "if-none-match": `"v${stepped.version}"` },
    });
    assert.equal(known.status, 304);
});

test("every wrong field of a request is named", SERVED, async () => {
    const session = await fresh();
    const wrong = { type: "message", role: "nobody" } as unknown as types.EntryDraft;
    await assert.rejects(session.append(wrong), (error) => {
        assert(isProblem(error, "invalid"));
        assert((error.members.errors ?? []).length > 0);
        return true;
    });
});

test("histories and lists are walked to their end, page after page", SERVED, async () => {
    const at = manager();
    const session = await fresh(at);
    const said = Array.from({ length: 450 }, (_, index) => message(`word ${index}`));
    await session.append(said.slice(0, 200));
    await session.append(said.slice(200, 400));
    await session.append(said.slice(400));
    const seqs: number[] = [];
    for await (const entry of session.entries({ type: "message" })) seqs.push(entry.seq);
    assert.equal(seqs.length, 450);
    assert.deepEqual(
        seqs,
        [...seqs].sort((one, other) => one - other),
    );
    await session.patch({ metadata: { batch: session.id } }, { ifMatch: "*" });
    const made = [session.id];
    for (let count = 0; count < 3; count += 1) {
        made.push((await at.create({ metadata: { batch: session.id } })).session.id);
    }
    // Lists may be behind what was written last.
    const listed = new Set<string>();
    for (let looks = 0; looks < 100 && listed.size < made.length; looks += 1) {
        for await (const summary of at.sessions({ "metadata.batch": session.id, limit: 2 })) listed.add(summary.id);
    }
    assert.deepEqual([...listed].sort(), made.sort());
});

test("a session sleeps and is resumed with what was said, and an erased one is gone", SERVED, async () => {
    const session = await fresh();
    await session.append([
        message("what is the weather?"),
        { type: "function_call", call_id: "c1", name: "weather", arguments: { city: "Bern" } },
    ]);
    await session.suspend();
    const resumed = await session.resume({ replay: "tail", for: "openai" });
    assert.equal(resumed.session.status, "active");
    assert.deepEqual(
        resumed.function_calls.interrupted.map((call) => call.call_id),
        ["c1"],
    );
    assert((resumed.context?.messages ?? []).length > 0);
    const window = await session.context({ for: "anthropic" });
    assert.equal(window.for, "anthropic");
    await session.erase();
    await assert.rejects(session.read(), (error) => isProblem(error, "erased"));
});

test("bytes are kept and given back as they were", SERVED, async () => {
    const session = await fresh();
    const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => index % 251);
    await session.attach("audio.raw", bytes, "application/octet-stream");
    assert.deepEqual(await session.attachment("audio.raw"), bytes);
    await session.attach("notes.txt", new Blob(["ünsaid"]), "text/plain; charset=utf-8");
    assert.equal(new TextDecoder().decode(await session.attachment("notes.txt")), "ünsaid");
});

test("an append whose answer is lost is there once", SERVED, async () => {
    let lost = 0;
    const fetch: typeof globalThis.fetch = async (input, init) => {
        const answer = await globalThis.fetch(input, init);
        if (init?.method !== "POST" || !String(input).endsWith("/entries") || Math.random() < 0.6) return answer;
        await answer.arrayBuffer();
        lost += 1;
        throw new TypeError("the connection broke");
    };
    const session = await fresh(manager({ fetch, retry: { pauseMs: 1, pauseMsMax: 5, triesMax: 30 } }));
    for (let count = 0; count < 60; count += 1) await session.append(message(count));
    const said: unknown[] = [];
    for await (const entry of session.entries({ type: "message" })) said.push(entry.content);
    assert.deepEqual(
        said,
        Array.from({ length: 60 }, (_, index) => index),
    );
    assert(lost > 0);
});

test("what has no method of its own is called by its name", SERVED, async () => {
    const at = manager();
    assert.equal((await at.call("GET /health")).status, "ok");
    const made = await at.call("POST /tokens", { body: { subject: "reader", roles: ["viewer"], ttl_seconds: 60 } });
    const reader = manager({ token: made.token });
    await assert.rejects(reader.create(), (error) => isProblem(error, "forbidden"));
    const key = `k-${Math.random()}`;
    const first = await at.ask("POST /sessions", { body: {}, key });
    const second = await at.ask("POST /sessions", { body: {}, key });
    assert.equal(second.data.id, first.data.id);
    assert.deepEqual([first.replayed, second.replayed], [false, true]);
    await assert.rejects(at.ask("POST /sessions", { body: { labels: ["x"] }, key }), (error) =>
        isProblem(error, "key-reused"),
    );
});
