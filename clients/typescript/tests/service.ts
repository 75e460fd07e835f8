/** The running service that tests speak to: `SESSIONMANAGER_URL`, and an admin's `SESSIONMANAGER_TOKEN` for it. */
import { randomUUID } from "node:crypto";
import { SessionManager, type Options, type Session } from "../src/index.js";

export const ADDRESS = process.env["SESSIONMANAGER_URL"];
export const TOKEN = process.env["SESSIONMANAGER_TOKEN"] ?? "";
/** Of a test: it needs the service. */
export const SERVED = { skip: ADDRESS === undefined ? "needs a service: SESSIONMANAGER_URL" : false, timeout: 60_000 };

export function manager(options: Partial<Options> = {}): SessionManager {
    return new SessionManager({ baseUrl: ADDRESS ?? "", token: TOKEN, ...options });
}

export async function fresh(at = manager()): Promise<Session> {
    return (await at.create({ id: `ts-${randomUUID()}` })).session;
}

export function message(content: unknown, id?: string) {
    return { type: "message" as const, role: "user" as const, content, ...(id === undefined ? {} : { id }) };
}

/** Waits until it holds. Throws after twenty seconds. */
export async function until(holds: () => boolean): Promise<void> {
    const giveUpAt = performance.now() + 20_000;
    while (!holds()) {
        if (performance.now() > giveUpAt) throw new Error("it did not come about");
        await new Promise((resolve) => setTimeout(resolve, 5));
    }
}
