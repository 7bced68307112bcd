/**
 * What importing the main module asks for: nothing but the GPU.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { inFolder } from "../data/files.ts";

Deno.test("the main module is imported and trains without any permission", async () => {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  await inFolder(async (folder) => {
    const { code, stdout, stderr } = await new Deno.Command("sh", {
      args: [
        "-c",
        'exec "$0" "$@"',
        Deno.execPath(),
        "run",
        "--no-prompt",
        ...map,
        "tests/host/two_steps.ts",
      ],
      cwd: new URL("../../", import.meta.url),
      env: { XDG_RUNTIME_DIR: folder, NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = new TextDecoder();
    assertEquals([code, text.decode(stdout).trim()], [0, "0.5 1"], text.decode(stderr));
  });
});
