/**
 * Dawn on a software driver that it takes, SwiftShader, in processes of its own: the driver of this process stays Mesa's.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { ROOT } from "../shell.ts";

/** Where the driver may be: Debian's Chromium, and what `tests/dawn/swiftshader.sh` fetches. */
const PLACES = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  new URL(".deno/swiftshader/vk_swiftshader_icd.json", ROOT).pathname,
];

const exists = (path: string): boolean => {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
};

/**
 * Declares a test that needs the driver. It fails where the driver could be fetched and was not, and is not run elsewhere.
 *
 * @param name Its name
 * @param fn Gets the path of the driver
 */
export function dawnTest(name: string, fn: (driver: string) => Promise<void>): void {
  const driver = PLACES.find(exists), fetchable = exists("/usr/bin/apt-get");
  Deno.test({
    name: driver === undefined && !fetchable ? `${name} (not run: no SwiftShader on this machine)` : name,
    ignore: driver === undefined && !fetchable,
    async fn() {
      assertEquals(driver !== undefined, true, "SwiftShader is missing: run sh tests/dawn/swiftshader.sh");
      await fn(driver!);
    },
  });
}

/** What a process did. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs Deno.
 *
 * @param args The subcommand, flags and a script
 * @param env Variables, such as the driver's
 * @returns How it ended
 */
export async function runDeno(
  [command, ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Ended> {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: [
      "-c",
      'exec "$0" "$@"',
      Deno.execPath(),
      command,
      "--quiet",
      "--no-check",
      "--no-prompt",
      ...map,
      ...args,
    ],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
