/**
 * Shell scripts of the project, run among fakes.
 *
 * @module
 */

/** The project. */
export const ROOT: URL = new URL("../", import.meta.url);

/** Writes a program. */
export function script(path: string, text: string): void {
  Deno.writeTextFileSync(path, text);
  Deno.chmodSync(path, 0o755);
}

/** Runs `sh` in a folder, whose `bin/` comes first on the path. */
export function run(
  folder: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Deno.CommandOutput {
  return new Deno.Command("sh", {
    args: [...args],
    cwd: folder,
    clearEnv: true,
    env: { ...env, PATH: `${folder}/bin:${Deno.env.get("PATH")}` },
  }).outputSync();
}
