/**
 * The page of `./firn browser`, served as that command does.
 *
 * @module
 */

const ROOT = new URL("../../", import.meta.url);

/** A server of the page. */
export interface PageServer extends AsyncDisposable {
  /** Its address. */
  readonly url: string;
}

/** Builds the page, and serves it on a free port. */
export async function servePage(): Promise<PageServer> {
  // Where these tests run with stand-ins, the command needs them too.
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const child = new Deno.Command("sh", {
    args: ["-c", 'exec "$0" "$@"', Deno.execPath(), "run", "--quiet", "--no-check"]
      .concat(standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [])
      .concat(["--allow-read", "--allow-write", "--allow-net=127.0.0.1", `--allow-run=${Deno.execPath()}`])
      .concat(["examples/browser.ts", "--port", "0"]),
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", url: string | undefined;
  while (url === undefined) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the server ended: ${text}`);
    text += value;
    url = text.match(/^listening +(\S+)\n/m)?.[1];
  }
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
      await reader.cancel();
    },
  };
}
