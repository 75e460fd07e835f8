import assert from "node:assert/strict";
import { test } from "node:test";
import { isProblem } from "../src/index.js";
import { Parser, type ServerEvent } from "../src/sse.js";

const STREAM =
    'retry: 1843\nevent: hello\ndata: {}\n\n: a comment\n\nid: 1\nevent: message\ndata: {"ö":"漢字 🦊"}\n\n' +
    "id:2\r\ndata: one\r\ndata:two\r\n\r\nid: 3\rdata\r\rdata: without a name\n\nevent: nothing\n\nid: 4\ndata: x\n\n";

function read(...pieces: Uint8Array[]): ServerEvent[] {
    const parser = new Parser();
    return pieces.flatMap((piece) => parser.push(piece));
}

test("events are the same wherever the connection cuts them", () => {
    const bytes = new TextEncoder().encode(STREAM);
    const whole = read(bytes);
    assert.deepEqual(
        whole.map(({ name, data, id }) => [name, data, id]),
        [
            ["hello", "{}", undefined],
            ["message", '{"ö":"漢字 🦊"}', "1"],
            ["message", "one\ntwo", "2"],
            ["message", "", "3"],
            ["message", "without a name", undefined],
            ["message", "x", "4"],
        ],
    );
    assert.equal(whole[0]?.retryMs, 1843);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
        assert.deepEqual(read(bytes.slice(0, cut), bytes.slice(cut)), whole, `cut at ${cut}`);
    }
    assert.deepEqual(read(...Array.from(bytes, (byte) => Uint8Array.of(byte))), whole);
});

test("an event without end is refused, in one line or in many", () => {
    for (const piece of ["data: " + "x".repeat(65_536), "data: " + "x".repeat(65_530) + "\n"]) {
        const parser = new Parser();
        const bytes = new TextEncoder().encode(piece);
        assert.throws(
            () => {
                for (let times = 0; times < 40; times += 1) parser.push(bytes);
            },
            (error) => isProblem(error, "not-ours"),
        );
    }
});
