/** One session of a service: the calls about it, with its id filled in. */
import { type CallOptions, type SessionManager, walk } from "./client.js";
import { type Feed, type FeedOptions, type SessionEvent, sessionFeed } from "./feed.js";
import { filled } from "./caller.js";
import type { Operations } from "./generated/operations.gen.js";
import type * as t from "./generated/types.gen.js";
import { Participant, type JoinOptions } from "./participant.js";

/** One step of a JSON patch (RFC 6902). */
export interface PatchStep {
    op: "add" | "remove" | "replace" | "move" | "copy" | "test";
    path: string;
    value?: unknown;
    from?: string;
}

type QueryOf<K extends keyof Operations> = NonNullable<Operations[K]["data"]["query"]>;
const PAGE = 200;

/** Whatever is not here is a `call` of `manager`. Every method throws ProblemError. */
export class Session {
    constructor(
        readonly manager: SessionManager,
        readonly id: string,
    ) {}

    private get path(): { id: string } {
        return { id: this.id };
    }

    /** The head and its newest entries; never older than what was seen here before. */
    read(query: QueryOf<"GET /sessions/{id}"> = {}, options: CallOptions = {}): Promise<t.Session> {
        return this.manager.call("GET /sessions/{id}", { ...options, path: this.path, query });
    }

    /** Append 1–256 entries in one commit. */
    append(entries: t.EntryDraft | t.EntryDraft[], options: CallOptions = {}): Promise<t.Receipt> {
        const body = { entries: Array.isArray(entries) ? entries : [entries] };
        return this.manager.call("POST /sessions/{id}/entries", { ...options, path: this.path, body });
    }

    /** Change what a caller sets: a merge patch, or a JSON patch as an array. Needs `ifMatch`, or `version` in a merge
     * patch; throws `version-conflict` where the session has moved on. */
    patch(change: t.MergePatch | PatchStep[], options: CallOptions = {}): Promise<t.Session> {
        const contentType = Array.isArray(change) ? "application/json-patch+json" : "application/merge-patch+json";
        const body = change as t.MergePatch;
        return this.manager.call("PATCH /sessions/{id}", { contentType, ...options, path: this.path, body });
    }

    /** Bring it back, with what a program needs to go on. */
    resume(body: t.ResumeBody = {}, options: CallOptions = {}): Promise<t.ResumeWithContext> {
        return this.manager.call("POST /sessions/{id}/resume", {
            ...options,
            path: this.path,
            body,
        }) as Promise<t.ResumeWithContext>;
    }

    suspend(options: CallOptions = {}): Promise<t.Receipt> {
        return this.manager.call("POST /sessions/{id}/suspend", { ...options, path: this.path }) as Promise<t.Receipt>;
    }

    end(reason?: string, options: CallOptions = {}): Promise<t.Receipt> {
        const body = reason === undefined ? {} : { reason };
        return this.manager.call("POST /sessions/{id}/end", {
            ...options,
            path: this.path,
            body,
        }) as Promise<t.Receipt>;
    }

    /** Erase it for ever. */
    erase(options: CallOptions = {}): Promise<t.ErasureAccepted> {
        return this.manager.call("DELETE /sessions/{id}", { ...options, path: this.path });
    }

    /** Every entry, page after page, oldest first unless `order` says otherwise. */
    entries(
        query: Omit<QueryOf<"GET /sessions/{id}/entries">, "cursor"> = {},
    ): AsyncGenerator<t.Entry, void, undefined> {
        // A cursor holds all the rest of its query and is sent alone.
        return walk((more) =>
            this.manager.call("GET /sessions/{id}/entries", {
                path: this.path,
                query: more.cursor === undefined ? { limit: PAGE, ...query } : more,
            }),
        );
    }

    /** A window that a model's API accepts. */
    context(query: QueryOf<"GET /sessions/{id}/context"> = {}, options: CallOptions = {}): Promise<t.ContextAnswer> {
        return this.manager.call("GET /sessions/{id}/context", { ...options, path: this.path, query });
    }

    /** Tell whoever follows now, and nobody else ever. */
    async signal(type: string, data?: unknown, options: CallOptions = {}): Promise<void> {
        await this.manager.call("POST /sessions/{id}/signals", { ...options, path: this.path, body: { type, data } });
    }

    /** Follow it: every entry after a seq, once and in order, and signals. after: left out = from now. */
    events(options: FeedOptions & { after?: number } = {}): Feed<SessionEvent> {
        const path = filled("/sessions/{id}/events", this.path);
        return sessionFeed(this.manager.caller, this.id, path, options.after, options);
    }

    /** Take part, with a token of one's own that is renewed, and heartbeats until `leave`. */
    join(body: t.JoinBody, options: JoinOptions = {}): Promise<Participant> {
        return Participant.join(this, body, options);
    }

    /** Keep bytes under a name, whole. */
    attach(
        name: string,
        bytes: Uint8Array | ArrayBuffer | Blob,
        contentType: string,
        options: CallOptions = {},
    ): Promise<t.Receipt> {
        const path = { id: this.id, name };
        return this.manager.call("PUT /sessions/{id}/attachments/{name}", {
            ...options,
            path,
            body: bytes,
            contentType,
        }) as Promise<t.Receipt>;
    }

    /** The bytes of an attachment, checked. */
    async attachment(name: string, options: CallOptions = {}): Promise<Uint8Array> {
        const path = { id: this.id, name };
        const data = await this.manager.call("GET /sessions/{id}/attachments/{name}", { ...options, path });
        return typeof data === "string" ? new TextEncoder().encode(data) : ((data ?? new Uint8Array()) as Uint8Array);
    }
}
