/**
 * Conversations: messages with the keys of OpenAI or of ShareGPT.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import { isRecord, shown } from "../../json_rules.ts";

/** A message of a conversation, as templates see it. Other keys, such as `tool_calls`, are handed on. */
export interface Message {
  /** Who speaks: `system`, `user`, `assistant`, `tool`, or what a template knows besides. */
  readonly role: string;
  /** What is said; null where the message holds calls of tools alone. */
  readonly content: string | null;
  /** 0 for an answer that is not to be learned, as OpenAI's files for fine-tuning have it. */
  readonly weight?: unknown;
  /** What else it has. */
  readonly [key: string]: unknown;
}

/** A conversation, and the tools that it may use. */
export interface Conversation {
  /** The messages, at least one. */
  readonly messages: readonly Message[];
  /** Descriptions of tools, as JSON schemas; absent where there are none. */
  readonly tools?: readonly unknown[];
}

/** Roles of ShareGPT. */
const ROLES: ReadonlyMap<string, string> = new Map([
  ["human", "user"],
  ["input", "user"],
  ["gpt", "assistant"],
  ["bot", "assistant"],
  ["chatgpt", "assistant"],
  ["ai", "assistant"],
  ["model", "assistant"],
  ["output", "assistant"],
  ["observation", "tool"],
  ["function_call", "assistant"],
]);

/**
 * Reads messages.
 *
 * @param value A list of `{"role", "content"}` or `{"from", "value"}`, or such a list as JSON
 * @returns The messages
 * @throws {DataError} When it is something else
 */
export function messagesOf(value: unknown): readonly Message[] {
  const list = typeof value === "string" ? parsed(value, "messages") : value;
  if (!Array.isArray(list) || list.length === 0) {
    throw new DataError(`"messages" must be a list with a message at least: it is ${shown(list)}`);
  }
  return list.map((entry, i) => messageOf(entry, i + 1));
}

/**
 * Reads the tools of a conversation.
 *
 * @param value A list of schemas, such a list as JSON, or nothing
 * @returns The tools; undefined for none
 * @throws {DataError} When it is something else
 */
export function toolsOf(value: unknown): readonly unknown[] | undefined {
  const list = typeof value === "string" && value.trim() !== "" ? parsed(value, "tools") : value;
  if (list === undefined || list === null || list === "") return undefined;
  if (!Array.isArray(list)) throw new DataError(`"tools" must be a list: it is ${shown(list)}`);
  return list.length === 0 ? undefined : list;
}

function messageOf(entry: unknown, number: number): Message {
  if (!isRecord(entry)) throw new DataError(`message ${number} must be an object: it is ${shown(entry)}`);
  const { from, value, ...others } = entry;
  const role = others.role ?? (typeof from === "string" ? ROLES.get(from.toLowerCase()) ?? from : from);
  if (typeof role !== "string" || role === "") {
    throw new DataError(
      `message ${number} must have a "role", or "from": it has ${Object.keys(entry).join(", ")}`,
    );
  }
  const content = textOf(others.content ?? value ?? null, number), calls = callsOf(others.tool_calls);
  if (content === null && calls === undefined && others.function_call === undefined) {
    throw new DataError(`message ${number} must have text in "content", or "value": it has none`);
  }
  return { ...others, role, content, ...calls && { tool_calls: calls } };
}

/** The text of a content; that of its parts, where it is a list of such. */
function textOf(content: unknown, number: number): string | null {
  if (content === null || typeof content === "string") return content;
  const parts = Array.isArray(content) ? content : [];
  const texts = parts.map((part) => isRecord(part) && (part.type ?? "text") === "text" ? part.text : part);
  if (texts.length > 0 && texts.every((text) => typeof text === "string")) return texts.join("");
  throw new DataError(
    `the content of message ${number} must be text, or a list of parts with text: it is ${shown(content)}`,
  );
}

/** Calls of tools, whose arguments OpenAI writes as JSON and templates expect as objects. */
function callsOf(calls: unknown): readonly unknown[] | undefined {
  if (!Array.isArray(calls) || calls.length === 0) return undefined;
  return calls.map((call) => {
    if (!isRecord(call) || !isRecord(call.function) || typeof call.function.arguments !== "string") {
      return call;
    }
    return { ...call, function: { ...call.function, arguments: objectOr(call.function.arguments) } };
  });
}

function objectOr(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : text;
  } catch {
    // Arguments that are no JSON are text, as a model wrote them.
    return text;
  }
}

function parsed(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DataError(`"${name}" must be a list, or one as JSON: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
