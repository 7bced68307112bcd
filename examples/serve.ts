/**
 * Answers as OpenAI's chat and completion routes do, on this machine.
 *
 * ```sh
 * deno run --allow-read --allow-write --allow-net=127.0.0.1 examples/serve.ts examples/models/sotu
 * ```
 *
 * @module
 */

import { loadChatTemplate } from "@firn/train/data";
import { readFlags, runMain, text, UsageError, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { listen } from "./listen.ts";
import { openaiRoutes } from "./openai_routes.ts";
import { print, printError } from "./print.ts";
import { onEndSignal } from "./signals.ts";
import { openReader, partArgs, READER_FLAGS } from "./prompting.ts";
import { requestQueue } from "./request_queue.ts";

/** The flags of the command. */
export const FLAGS = {
  port: whole("port to listen on", 8080, 0),
  batch: whole("most requests that are answered at once", 8),
  "max-tokens": whole("most tokens of an answer to a request that names no number", 1024),
  name: text(
    "NAME",
    "what the model is called in answers; its folder, or its name on the hub, when absent",
    null,
  ),
  "chat-template": text("FILE", "chat template in place of the model's own", null),
  ...READER_FLAGS,
};

const USAGE = `usage: ./firn serve MODEL [flags]
       deno run --allow-read --allow-write --allow-net=127.0.0.1 examples/serve.ts MODEL [flags]

Answers POST /v1/chat/completions and /v1/completions, whole or streamed, as OpenAI's API does, for programs on this machine:
base URL http://127.0.0.1:8080/v1, any key, any name of a model. A request joins those that are worked on at the next token. Ctrl-C ends it.`;

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
  const template = await loadChatTemplate(reader.folder, { file: flags["chat-template"] ?? undefined });
  using queue = requestQueue(reader, { most: flags.batch });
  const handler = openaiRoutes({
    ...reader,
    name: flags.name ?? (reader.folder === name ? name.replace(/[\\/]+$/, "").split(/[\\/]/).at(-1)! : name!),
    template,
    queue,
    maxTokens: flags["max-tokens"],
  });
  const server = listen(flags.port, { path: "/v1", handler });
  let ending = false;
  const stop = (): void => {
    if (ending) Deno.exit(130);
    ending = true;
    printError("serve: finishes the answers that it has begun; a second signal exits at once");
    void server.shutdown();
  };
  using _signals = onEndSignal(stop);
  if (template === null) {
    printError("the model has no chat template: /v1/chat/completions answers with an error");
  }
  await server.finished;
}

if (import.meta.main) await runMain(main, "serve");
