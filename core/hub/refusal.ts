/**
 * What a hub refuses, as errors that a person can act on.
 *
 * @module
 */

import { type FirnError, HubError, InputError, NotFoundError } from "../errors.ts";
import { isRecord, shorten } from "../json_rules.ts";
import type { Hub } from "./settings.ts";

/** What is asked of a hub, in words. */
export interface Question {
  /** As in `download "owner/name"`. */
  readonly action: string;
  /** What else was seen: `there is no folder of that name`. */
  readonly seen?: string;
}

/** What was asked, and of whom. */
interface Asked {
  readonly hub: Hub;
  readonly url: string;
  readonly question: Question;
}

/** Bytes of an explanation. */
const MOST_BYTES = 20_000;

/**
 * Makes the error of an answer that is not one of success.
 *
 * @param answer The answer
 * @param asked What was asked
 * @returns A {@link NotFoundError} when what was asked for does not exist, else a {@link HubError} with its status
 */
export async function refusal(answer: Response, { hub, question }: Asked): Promise<FirnError> {
  const { status } = answer, code = answer.headers.get("X-Error-Code");
  const said = await wordsOf(answer), also = question.seen === undefined ? "" : `${question.seen}, and `;
  const seen = `${also}it answers ${status}${said === "" ? "" : ` (${said})`}`;
  const fail = (rule: string, mend: string): FirnError => {
    const message = `Cannot ${question.action} as ${rule}: ${seen}; ${mend}`;
    return status === 404 || code === "RepoNotFound" || code === "RevisionNotFound" ||
        code === "EntryNotFound"
      ? new NotFoundError(message, { cause: new HubError(message, { status }) })
      : new HubError(message, { status });
  };
  const { endpoint, token } = hub;
  const who = token === null
    ? "set HF_TOKEN to your token, or run hf auth login"
    : "check that your token is valid and may do it";
  if (code === "RevisionNotFound") {
    return fail(`${endpoint} must have that revision`, "check what follows the @");
  }
  if (code === "EntryNotFound") return fail(`${endpoint} must have that file`, "check its path");
  if (code === "GatedRepo") {
    return fail(
      `${endpoint} gives it to those who accepted its terms`,
      `accept them on its page there, and ${who}`,
    );
  }
  if (status === 404 || code === "RepoNotFound") {
    return fail(`${endpoint} must have it`, `check the name; if it is private, ${who}`);
  }
  // The hub tells a stranger nothing of what is private: it answers 401 for what does not exist, too.
  if (status === 401) return fail(`${endpoint} must have it and let you`, `check the name, and ${who}`);
  if (status === 403) return fail(`${endpoint} must let you`, who);
  if (status === 409 || status === 412) {
    return fail(`${endpoint} must be able to`, "it was changed meanwhile, or exists; try again");
  }
  if (status === 413) return fail(`${endpoint} limits what it takes`, "send less");
  if (status === 429) return fail(`${endpoint} limits requests`, `wait some minutes, and ${who}`);
  if (status >= 500) return fail(`${endpoint} must work`, "try again later");
  return fail(`${endpoint} must accept the request`, "check the name, and HF_ENDPOINT");
}

/**
 * Makes the error of a request without an answer.
 *
 * @param error What `fetch` threw
 * @param asked What was asked
 * @returns A {@link HubError} without a status; an {@link InputError} when Deno may not use the network
 */
export function unreachable(error: unknown, { url, question }: Asked): unknown {
  if (!(error instanceof Error)) return error;
  const { host } = new URL(url);
  if (error.name === "NotCapable") {
    // The hub may have led elsewhere.
    const blocked = /net access to "([^"]+)"/.exec(error.message)?.[1] ?? host;
    return new InputError(
      `Cannot ${question.action} as Deno must be allowed to ask ${blocked}: it is not; run with --allow-net=${blocked}`,
      { cause: error },
    );
  }
  if (!(error instanceof TypeError) && error.name !== "TimeoutError" && error.name !== "AbortError") {
    return error;
  }
  const reason = shorten(
    error.message.replace(/^error sending request for url \([^)]*\)(: )?/, "") || "no answer",
  );
  return new HubError(
    `Cannot ${question.action} as ${host} must be reachable: ${
      question.seen === undefined ? "" : `${question.seen}, and `
    }${reason}; check the network, the proxy and HF_ENDPOINT`,
    { status: null, cause: error },
  );
}

/** What the hub says of the reason. */
async function wordsOf(answer: Response): Promise<string> {
  const header = answer.headers.get("X-Error-Message");
  const body = new Uint8Array(MOST_BYTES);
  let size = 0;
  try {
    for await (const chunk of answer.body ?? []) {
      const part = chunk.subarray(0, body.length - size);
      body.set(part, size);
      if ((size += part.length) === body.length) break;
    }
  } catch {
    // The status says enough where the connection breaks in the middle of the words.
  }
  if (header) return shorten(header);
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(body.subarray(0, size)));
    const words = isRecord(json) ? json.error ?? json.message : null;
    return typeof words === "string" ? shorten(words) : "";
  } catch {
    return "";
  }
}
