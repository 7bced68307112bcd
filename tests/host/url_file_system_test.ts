/**
 * Files of web servers, honest and not.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FileError, InputError, NotFoundError } from "@firn/train";
import { loadTokenizer, openSafetensors, urlFileSystem } from "@firn/train/data";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

type Answer = (request: Request) => Response | Promise<Response>;

/** Asks a server on this machine. */
async function served(answer: Answer, test: (base: string, asked: string[]) => Promise<void>): Promise<void> {
  const asked: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    asked.push(`${request.method} ${new URL(request.url).pathname} ${request.headers.get("range") ?? "all"}`);
    return answer(request);
  });
  try {
    await test(`http://127.0.0.1:${server.addr.port}/files`, asked);
  } finally {
    await server.shutdown();
  }
}

/** Answers as a server of files does, with ranges or without. */
function filesOf(files: Readonly<Record<string, Uint8Array<ArrayBuffer> | string>>, ranges = true): Answer {
  return (request) => {
    const content = files[decodeURIComponent(new URL(request.url).pathname.replace("/files/", ""))];
    if (content === undefined) return new Response("no", { status: 404 });
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const [, begin, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "") ?? [];
    if (!ranges || begin === undefined) return new Response(bytes);
    if (Number(begin) >= bytes.length) {
      return new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.length}` } });
    }
    const part = bytes.slice(Number(begin), Number(end) + 1);
    const range = `bytes ${begin}-${Number(begin) + part.length - 1}/${bytes.length}`;
    return new Response(part, { status: 206, headers: { "content-range": range } });
  };
}

for (const ranges of [true, false]) {
  const how = ranges ? "by ranges" : "as a whole, where a server knows no ranges";
  Deno.test(`urlFileSystem reads files and parts of them ${how}`, async () => {
    await served(filesOf({ "a b/ü?.txt": "0123456789", empty: "" }, ranges), async (base, asked) => {
      const fileSystem = urlFileSystem(base);
      assertEquals(text(await fileSystem.read("a b/ü?.txt")), "0123456789");
      asked.length = 0;
      await using file = await fileSystem.open("./a b/ü?.txt");
      const parts = await Promise.all(
        [[0, 2], [4, 7], [8, 20], [12, 13], [0, 10]].map(([a, b]) => file.read(a, b)),
      );
      assertEquals(parts.map(text), ["01", "456", "89", "", "0123456789"]);
      assertEquals(asked.length, ranges ? 5 : 2);
      assertEquals(await fileSystem.stat("a b/ü?.txt"), { kind: "file", size: 10 });
      assertEquals([await fileSystem.stat("empty"), (await fileSystem.read("empty")).length], [
        { kind: "file", size: 0 },
        0,
      ]);
      await assertRejects(() => fileSystem.read("no"), NotFoundError, `Cannot open "${base}/no"`);
      assertEquals(await fileSystem.stat("no"), null);
      await assertRejects(() => fileSystem.write("x", ""), FileError, "read-only");
    });
  });
}

Deno.test("a tokenizer and tensors are loaded from an address, and of the tensors only what is read", async () => {
  const folder = "examples/models/sotu",
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
  const files = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await Deno.readFile(`${folder}/${name}`)])),
  );
  await served(filesOf(files), async (base, asked) => {
    const fileSystem = urlFileSystem(base);
    assertEquals((await fileSystem.list(".")).map(({ name }) => name), names.toSorted());
    const tokenizer = await loadTokenizer(".", { fileSystem });
    assertEquals(
      tokenizer.encode("the state of the union"),
      (await loadTokenizer(folder)).encode("the state of the union"),
    );
    await using here = await openSafetensors(`${folder}/model.safetensors`);
    await using there = await openSafetensors("model.safetensors", { fileSystem });
    const name = there.names[0];
    assertEquals(await there.readF32(name), await here.readF32(name));
    assert(!asked.includes("GET /files/model.safetensors all"));
  });
});

Deno.test("urlFileSystem with names lists them, and asks for no other", async () => {
  await served(filesOf({ "a/x": "1", y: "2", z: "3" }), async (base, asked) => {
    const fileSystem = urlFileSystem(`${base}/`, { files: ["a/x", "y"] });
    assertEquals(await fileSystem.list("."), [{ name: "a", kind: "folder" }, { name: "y", kind: "file" }]);
    assertEquals([await fileSystem.stat("z"), await fileSystem.stat("a")], [null, {
      kind: "folder",
      size: 0,
    }]);
    await assertRejects(() => fileSystem.read("z"), NotFoundError);
    await assertRejects(() => fileSystem.list("z"), NotFoundError);
    assertEquals(asked, []);
    assertEquals(text(await fileSystem.read("a/x")), "1");
  });
});

Deno.test("urlFileSystem asks for nothing outside of its address", async () => {
  await served(() => new Response("secret"), async (base, asked) => {
    const fileSystem = urlFileSystem(base);
    for (const path of ["../x", "a/../../x", "..\\x", "\ud800"]) {
      await assertRejects(() => fileSystem.read(path), FileError);
    }
    assertEquals(asked, []);
    for (const path of ["//other.example/x", "%2e%2e/x", "http://other.example/x", "?x", "#x"]) {
      await fileSystem.read(path);
    }
    assert(asked.every((line) => line.startsWith("GET /files/")), asked.join("\n"));
  });
  for (
    const base of [
      "file:///etc",
      "data:,x",
      "https://user:word@example.com/",
      "https://example.com/?x",
      "models/x",
    ]
  ) {
    assertThrows(() => urlFileSystem(base), InputError, "https:// or http://");
  }
  assertThrows(
    () => urlFileSystem("https://example.com", { files: ["../x"] }),
    InputError,
    "below their folder",
  );
});

Deno.test("a server that sends more than it may is cut off", async () => {
  let sent = 0;
  const endless = () =>
    new ReadableStream({
      pull(controller) {
        sent += 2 ** 16;
        controller.enqueue(new Uint8Array(2 ** 16));
      },
    });
  await served(() => new Response(endless()), async (base) => {
    await assertRejects(
      () => urlFileSystem(base).read("x", { limit: 2 ** 20 }),
      FileError,
      "may have 1,048,576 bytes",
    );
  });
  const range = { "content-range": "bytes 0-0/100" };
  await served(() => new Response(endless(), { status: 206, headers: range }), async (base) => {
    await using file = await urlFileSystem(base).open("x");
    await assertRejects(() => file.read(0, 100), FileError, "may have 100 bytes");
  });
  assert(sent < 2 ** 25, `${sent}`);
});

Deno.test("a file that changes on its server while it is read is not mixed of both", async () => {
  for (const header of ["etag", "last-modified"]) {
    let version = 1;
    const answer = filesOf({ x: "0123456789" });
    const versioned: Answer = async (request) => {
      const response = await answer(request);
      response.headers.set(header, `"${version}"`);
      return response;
    };
    await served(versioned, async (base) => {
      await using file = await urlFileSystem(base).open("x");
      assertEquals(text(await file.read(0, 5)), "01234");
      version = 2;
      await assertRejects(() => file.read(5, 10), FileError, "it has changed on its server; load it again");
    });
  }
});

const part = (range: string, body = "xx") =>
  new Response(body, { status: 206, headers: { "content-range": range } });

const WRONG: Readonly<Record<string, readonly [answer: Answer, message: string]>> = {
  "another part": [
    (r) => part(r.headers.get("range") === "bytes=0-0" ? "bytes 0-0/10" : "bytes 4-5/10"),
    "has changed",
  ],
  "a part of another size": [
    (r) => part(r.headers.get("range") === "bytes=0-0" ? "bytes 0-0/10" : "bytes 2-3/12"),
    "has changed",
  ],
  "too little": [
    (r) => part(r.headers.get("range") === "bytes=0-0" ? "bytes 0-0/10" : "bytes 2-3/10", "x"),
    "must send the 2 bytes",
  ],
  "the whole in place of a part": [
    (r) => r.headers.get("range") === "bytes=0-0" ? part("bytes 0-0/10") : new Response("0123456789"),
    "has changed",
  ],
  "no size": [
    (r) => r.method === "HEAD" ? new Response(null, { status: 405 }) : part("bytes 0-0/*"),
    "must tell its size",
  ],
  "a refusal": [() => new Response("no", { status: 403 }), "answers 403"],
  "a failure": [() => new Response("no", { status: 500 }), "answers 500; try again later"],
};

for (const [what, [answer, message]] of Object.entries(WRONG)) {
  Deno.test(`a server that sends ${what} is named`, async () => {
    await served(answer, async (base) => {
      const work = async () => {
        await using file = await urlFileSystem(base).open("x");
        return await file.read(2, 4);
      };
      await assertRejects(work, FileError, message);
    });
  });
}

Deno.test("the page that a server of an application sends for every address is no file, and an address may have no server", async () => {
  const html = () => new Response("<p>", { headers: { "content-type": "text/html; charset=utf-8" } });
  await served(html, async (base) => {
    assertEquals(await urlFileSystem(base).list("."), []);
    await assertRejects(() => urlFileSystem(base).read("config.json"), NotFoundError);
  });
  await assertRejects(
    () => urlFileSystem("http://127.0.0.1:1").read("x"),
    FileError,
    "its server must answer",
  );
});
