/**
 * A conversation with a model in the terminal: `./firn chat`.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/converse.ts HuggingFaceTB/SmolLM2-135M-Instruct
 * ```
 *
 * @module
 */

import { FirnError } from "@firn/train";
import { hostFileSystem, parentOf } from "@firn/train/data";
import { printable } from "@firn/train/report";
import { type Chat, startChat, templateOf } from "./chat_turns.ts";
import { readFlags, runMain, text, UsageError, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { print, write } from "./print.ts";
import {
  openReader,
  paceText,
  partArgs,
  READER_FLAGS,
  SAMPLING_FLAGS,
  samplingOf,
  turn,
} from "./prompting.ts";

/** The flags of the command. */
export const FLAGS = {
  system: text("TEXT", "what the model is told before the first message", null),
  "chat-template": text("FILE", "chat template in place of the model's own", null),
  "max-tokens": whole("most tokens of an answer", 512),
  ...SAMPLING_FLAGS,
  ...READER_FLAGS,
};

const USAGE = `usage: ./firn chat MODEL [flags]
       deno run --allow-read --allow-write examples/converse.ts MODEL [flags]

A conversation with a model: a Hugging Face folder, or its name on the hub. An empty line is no message. Ctrl-C ends an answer.`;

const COMMANDS = `/reset       begin anew
/save FILE   add the conversation to a file, as a line of JSON; out/chat.jsonl when no file is named
/help        show this
/exit        end, as Ctrl-D does`;

/** Where conversations are saved. */
const SAVED = "out/chat.jsonl";

/** Lines of standard input. */
async function* linesOf(input: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (
    const piece of input.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
  ) {
    const lines = (rest + piece).split(/\r?\n/);
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/**
 * Adds a conversation to a file of lines of JSON.
 *
 * @param chat The conversation
 * @param path The file; it and its folder are made when absent
 */
export async function save({ messages }: Pick<Chat, "messages">, path: string): Promise<void> {
  const files = hostFileSystem();
  const before = await files.stat(path) === null ? "" : new TextDecoder().decode(await files.read(path));
  const line = JSON.stringify({ messages }), folder = parentOf(path);
  if (folder !== ".") await files.makeFolder(folder, { parents: true });
  await files.write(path, new TextEncoder().encode(`${before}${/[^\n]$/.test(before) ? "\n" : ""}${line}\n`));
}

/** Obeys a line that begins with a slash; false when the conversation is over. */
async function obey(chat: Chat, line: string): Promise<boolean> {
  const [command, ...words] = line.split(/\s+/);
  switch (command) {
    case "/reset":
      chat.reset();
      print("A new conversation.");
      return true;
    case "/save": {
      const path = words.join(" ") || SAVED;
      await save(chat, path);
      print(`saved to ${path}`);
      return true;
    }
    case "/exit":
      return false;
    case "/help":
      print(COMMANDS);
      return true;
    default:
      print(`There is no command "${command}".\n${COMMANDS}`);
      return true;
  }
}

/** Prints an answer as it comes. Ctrl-C ends it. */
async function answer(chat: Chat, question: string): Promise<void> {
  let stopped = false;
  const stop = (): void => {
    stopped = true;
  };
  Deno.addSignalListener("SIGINT", stop);
  try {
    for await (const piece of chat.ask(question)) {
      write(printable(piece));
      await turn();
      if (stopped) break;
    }
  } finally {
    Deno.removeSignalListener("SIGINT", stop);
  }
  const { tokens, milliseconds } = chat.pace;
  print(`\n(${paceText(tokens, milliseconds)})`);
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { words: [name, ...more], flags: rest } = partArgs(args);
  const { values: flags, help } = readFlags(rest, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (more.length > 0) throw new UsageError(`one model: "${more[0]}" is too much`);
  const reader = await openReader(name, flags);
  await using _ = reader.gpu;
  using chat = startChat(reader, {
    template: await templateOf(reader.folder, flags["chat-template"]),
    system: flags.system,
    maxTokens: flags["max-tokens"],
    sampling: samplingOf(flags),
    stop: flags.stop,
  });
  print(`A conversation with ${reader.folder}. /help shows what else can be typed.`);
  const ask = (): void => {
    if (Deno.stdin.isTerminal()) write("\n> ");
  };
  ask();
  for await (const line of linesOf(Deno.stdin.readable)) {
    const said = line.trim();
    try {
      if (said.startsWith("/")) {
        if (!await obey(chat, said)) break;
      } else if (said !== "") await answer(chat, said);
    } catch (error) {
      // A message that the template refuses, or a file that cannot be written, does not end the conversation.
      if (!(error instanceof FirnError)) throw error;
      print(error.message);
    }
    ask();
  }
}

if (import.meta.main) await runMain(main, "chat");
