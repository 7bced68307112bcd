/**
 * Servers of this machine alone.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { print } from "./print.ts";

/** Where they listen: nobody else can reach it. */
const HOST = "127.0.0.1";

/**
 * Listens on this machine, and prints where.
 *
 * @param port The port; 0 for any that is free
 * @param options `path`: what is printed behind the address; `handler`: answers requests
 * @returns The server
 * @throws {InputError} When the port is taken, or not allowed
 */
export function listen(
  port: number,
  { path, handler }: {
    readonly path: string;
    readonly handler: (request: Request) => Response | Promise<Response>;
  },
): Deno.HttpServer {
  try {
    return Deno.serve({
      hostname: HOST,
      port,
      onListen: (address) => print(`listening   http://${HOST}:${address.port}${path}`),
    }, handler);
  } catch (error) {
    throw new InputError(
      `Cannot listen on port ${port} as it must be free, and allowed for you: ${(error as Error).message}; ` +
        "choose another with --port",
      { cause: error },
    );
  }
}
