/**
 * `serve` as a process: what only a real connection and a real signal show.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { startDeno } from "./process.ts";

/** Reads until the text so far matches. */
async function until(reader: ReadableStreamDefaultReader<Uint8Array>, wanted: RegExp): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += decoder.decode(piece.value, { stream: true });
    if (wanted.test(text)) return text;
  }
  return text;
}

/** The status line of an answer to a request that names a host. */
async function statusFor(port: number, host: string): Promise<string> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const request = `GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  await connection.write(new TextEncoder().encode(request));
  const [line] = (await new Response(connection.readable).text()).split("\r\n");
  return line;
}

Deno.test("serve refuses other hosts, sends text while it is made, and at a signal ends the answers that it has begun", async () => {
  await inFolder(async (folder) => {
    const permissions = ["--allow-read", "--allow-write", "--allow-net=127.0.0.1"];
    const process = startDeno(
      [...permissions, "examples/serve.ts", "examples/models/sotu", "--port", "0"],
      folder,
    );
    const output = process.stdout.getReader(), errors = new Response(process.stderr).text();
    const port = Number((await until(output, /listening.*\n/)).match(/:(\d+)\/v1/)?.[1]);
    assertMatch(await statusFor(port, `127.0.0.1:${port}`), /200/);
    assertMatch(await statusFor(port, `evil.example:${port}`), /403/);
    const ask = (body: object): Promise<Response> =>
      fetch(`http://127.0.0.1:${port}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: "The", ...body }),
      });
    assertEquals((await (await ask({ max_tokens: 1 })).json()).usage.completion_tokens, 1);
    const long = { max_tokens: 100, temperature: 0, stream: true };
    // The first one compiles kernels.
    await (await ask(long)).text();
    const start = performance.now(), times: number[] = [];
    for await (const _ of (await ask(long)).body!) times.push(performance.now() - start);
    assert(times[0] < times.at(-1)! / 2, `The first piece came after ${times[0]} of ${times.at(-1)} ms`);
    const answer = (await ask(long)).body!.getReader();
    await until(answer, /data/);
    process.kill("SIGINT");
    assertMatch(await until(answer, /DONE/), /"finish_reason":"length".*\n\ndata: \[DONE\]/);
    await output.cancel();
    assertEquals((await process.status).code, 0);
    // Deno warns where the signal of a request aborts on success, too.
    assertEquals(/legacy/.test(await errors), false);
  });
});
