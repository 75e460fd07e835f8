/** Server-sent events out of bytes (WHATWG HTML section 9.2), however the connection cuts them. */
import { ProblemError } from "./problems.js";

/** One event as it stood in the stream. `id`: undefined where it has none of its own. */
export interface ServerEvent {
    name: string;
    data: string;
    id: string | undefined;
    retryMs: number | undefined;
}

const EVENT_CHARACTERS_MAX = 2 * 1024 * 1024;
const RETRY = /^\d{1,9}$/;

export class Parser {
    private readonly decoder = new TextDecoder();
    private rest = "";
    private size = 0;
    private name = "";
    private data: string[] = [];
    private id: string | undefined;
    private retryMs: number | undefined;

    /** The events that are whole now. Throws ProblemError for one without end. */
    push(bytes: Uint8Array): ServerEvent[] {
        // A lone return at the end may be half of a line's end: it waits for what comes next.
        const text = this.rest + this.decoder.decode(bytes, { stream: true });
        const lines = text.split(/\r\n|\n|\r(?!$)/);
        this.rest = lines.pop() ?? "";
        const events: ServerEvent[] = [];
        for (const line of lines) {
            this.size += line.length;
            if (line === "") this.finish(events);
            else this.field(line);
        }
        if (this.size + this.rest.length > EVENT_CHARACTERS_MAX) {
            throw new ProblemError({ type: "not-ours", remedy: "none", detail: "an event without end" });
        }
        return events;
    }

    private finish(events: ServerEvent[]): void {
        if (this.data.length > 0) {
            events.push({
                name: this.name || "message",
                data: this.data.join("\n"),
                id: this.id,
                retryMs: this.retryMs,
            });
            this.retryMs = undefined;
        }
        this.name = "";
        this.data = [];
        this.id = undefined;
        this.size = 0;
    }

    private field(line: string): void {
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
        if (field === "data") this.data.push(value);
        else if (field === "event") this.name = value;
        else if (field === "id" && !value.includes("\0")) this.id = value;
        else if (field === "retry" && RETRY.test(value)) this.retryMs = Number(value);
    }
}
