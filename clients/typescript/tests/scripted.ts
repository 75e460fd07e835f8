/** A service that answers by a script: what a real one does only now and then. */
import { setImmediate } from "node:timers/promises";
import { SessionManager, type Options } from "../src/index.js";

/** A request as it came. */
export interface Seen {
    method: string;
    url: string;
    headers: Headers;
    body: string | undefined;
}

export type Step = Response | Error | ((seen: Seen, signal: AbortSignal) => Response | Promise<Response>);

export const QUICK = { pauseMs: 1, pauseMsMax: 4, deadlineMs: 5_000, tryMs: 2_000 };

/** A client whose requests are answered by the steps, in order; the last one answers all that follow. */
export function scripted(steps: Step[], options: Partial<Options> = {}): { manager: SessionManager; seen: Seen[] } {
    const seen: Seen[] = [];
    const fetch = async (input: unknown, init: RequestInit = {}): Promise<Response> => {
        const body = typeof init.body === "string" ? init.body : undefined;
        const request = { method: init.method ?? "GET", url: String(input), headers: new Headers(init.headers), body };
        seen.push(request);
        const step = steps.length > 1 ? steps.shift() : steps[0];
        await setImmediate();
        init.signal?.throwIfAborted();
        if (step === undefined) throw new Error("the script is empty");
        if (step instanceof Error) throw step;
        return step instanceof Response ? step.clone() : await step(request, init.signal as AbortSignal);
    };
    const manager = new SessionManager({
        baseUrl: "http://service.test/",
        token: "t1",
        retry: QUICK,
        fetch,
        ...options,
    });
    return { manager, seen };
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
    return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
}

export function problem(
    status: number,
    type: string,
    remedy: string,
    more: object = {},
    headers: Record<string, string> = {},
): Response {
    const body = {
        type,
        title: type,
        status,
        detail: "for people",
        instance: "/x",
        request_id: "r-1",
        remedy,
        ...more,
    };
    return json(status, body, { "content-type": "application/problem+json", ...headers });
}

/** A connection that broke. */
export const broken = (): TypeError => new TypeError("fetch failed");

/** Never answers; ends when it is cut off. */
export function never(_: Seen, signal: AbortSignal): Promise<Response> {
    return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
}

/** A feed that says these texts and then ends, or stays silent. */
export function feed(texts: string[], end: "cut" | "silent" | "broken" = "cut"): Step {
    return (_, signal) => {
        const stream = new ReadableStream<Uint8Array>({
            start(controller) {
                for (const text of texts) controller.enqueue(new TextEncoder().encode(text));
                if (end === "cut") controller.close();
                if (end === "broken") setTimeout(() => controller.error(broken()));
                signal.addEventListener("abort", () => end !== "cut" && controller.error(signal.reason));
            },
        });
        return new Response(stream, { headers: { "content-type": "text/event-stream" } });
    };
}

export function event(name: string, data: object, id?: number | string): string {
    return `${id === undefined ? "" : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

export function entry(seq: number): string {
    return event(
        "message",
        { seq, version: seq, id: `e${seq}`, type: "message", role: "user", content: `word ${seq}` },
        seq,
    );
}

export function hello(after: number | string, heartbeat_seconds = 15): string {
    return event("hello", { session: "s", after, heartbeat_seconds });
}
