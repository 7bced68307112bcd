/**
 * Serves a page that follows a run: of this machine, one that another process trains or that is finished.
 *
 * ```sh
 * deno run --allow-read --allow-net=127.0.0.1 examples/watch.ts out/finetune-1
 * ```
 *
 * @module
 */

import { InputError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { watchHandler } from "@firn/train/report";
import { readFlags, runMain, UsageError } from "./flags.ts";
import { helpOf } from "./help.ts";
import { portFlag } from "./port_flag.ts";
import { print, printError } from "./print.ts";
import { onEndSignal } from "./signals.ts";
import { logOf } from "./run_places.ts";

const FLAGS = { port: portFlag("port on this machine; 0 for any that is free", 0) };

const USAGE = `usage: ./firn watch FOLDER [flags]
       deno run --allow-read --allow-net=127.0.0.1 examples/watch.ts FOLDER [flags]

Serves a page that shows how the run in an output folder goes on: loss, learning rate, freezing and its reasons, memory, tokens
a second and samples. It follows a run that is interrupted and goes on, and only reads.`;

/**
 * Serves the page of a log, on this machine only.
 *
 * @param log The log of the run; it may come later
 * @param options The port, 0 for any that is free; and what is told of each request
 * @returns The address, and the server
 * @throws {InputError} When the port is taken, or Deno may not open it
 */
export function serveWatch(
  log: string,
  { port, onAsked = () => {} }: { readonly port: number; readonly onAsked?: () => void },
): { readonly url: string; readonly server: Deno.HttpServer<Deno.NetAddr> } {
  const handler = watchHandler(log);
  const answer = (request: Request): Promise<Response> => {
    onAsked();
    return handler(request);
  };
  try {
    const server = Deno.serve({ hostname: "127.0.0.1", port, onListen: () => {} }, answer);
    return { url: `http://127.0.0.1:${server.addr.port}/`, server };
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new InputError(
        `Cannot serve the page of the run as port ${port} must be free: another process has it; choose another, or 0 for any`,
        { cause: error },
      );
    }
    if (error instanceof Deno.errors.NotCapable) {
      throw new InputError(
        "Cannot serve the page of the run as Deno must be allowed to: it may not open a port of 127.0.0.1; " +
          "add --allow-net=127.0.0.1, or start by ./firn",
        { cause: error },
      );
    }
    throw error;
  }
}

/**
 * Runs the command, until a signal ends it.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const [place, ...rest] = args;
  if (["--help", "-h"].includes(place)) return print(helpOf(USAGE, FLAGS));
  if (!place || place.startsWith("-")) throw new UsageError("name the output folder of a run");
  const { values: { port }, help } = readFlags(rest, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  const log = await logOf(place), { url, server } = serveWatch(log, { port });
  print(`watching    ${place} at ${url}`);
  if (await hostFileSystem().stat(log) === null) print(`waiting     for a run: there is no ${log} yet`);
  const stop = (): void => {
    printError("watch: ends");
    void server.shutdown();
  };
  using _signals = onEndSignal(stop);
  await server.finished;
}

if (import.meta.main) await runMain(main, "watch");
