/**
 * Chromium without a window, driven by the DevTools protocol.
 *
 * @module
 */

/** A page of a browser. */
export interface Page {
  /** Calls a method of the protocol. */
  send(method: string, params?: object): Promise<Record<string, unknown>>;
  /** Runs an expression in the page, and waits for it when it is a promise. */
  run<T>(expression: string): Promise<T>;
  /** Waits until an expression is true. */
  until(expression: string, what: string): Promise<void>;
  /** Presses a key. */
  press(key: Key): Promise<void>;
  /** Chooses a file, or a folder, as the dialog of an input does. */
  choose(id: string, path: string): Promise<void>;
  /** Presses a button that offers a download, and reads the file of that name. */
  download(id: string, name: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Errors and warnings that the page and its worker wrote or threw. */
  readonly complaints: readonly string[];
}

/** A browser. */
export interface Browser extends AsyncDisposable {
  /** Opens a page, and loads it. */
  open(url: string): Promise<Page>;
}

/** Keys by name: their codes, and the text that they type. */
const KEYS = {
  Tab: { code: "Tab", windowsVirtualKeyCode: 9 },
  Enter: { code: "Enter", windowsVirtualKeyCode: 13, text: "\r" },
  Space: { code: "Space", windowsVirtualKeyCode: 32, text: " " },
  ArrowDown: { code: "ArrowDown", windowsVirtualKeyCode: 40 },
} as const;

/** A key. */
export type Key = keyof typeof KEYS;

/** Where Debian has it. */
export const CHROMIUM = "/usr/bin/chromium";

/** Runs WebGPU on SwiftShader, a CPU. */
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--remote-debugging-port=0",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-extensions",
  "--hide-scrollbars",
];

/** Milliseconds until something that does not come is given up. */
const PATIENCE = 120_000;

interface Answer {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/**
 * Starts Chromium.
 *
 * @param folder A folder for its profile and its downloads, which is made
 * @param options Whether it has WebGPU
 * @returns The browser
 */
export async function startChromium(
  folder: string,
  { webgpu = true }: { readonly webgpu?: boolean } = {},
): Promise<Browser> {
  const child = new Deno.Command("sh", {
    args: [
      "-c",
      'exec "$0" "$@"',
      CHROMIUM,
      ...FLAGS,
      ...webgpu ? WEBGPU : [],
      `--user-data-dir=${folder}`,
      "about:blank",
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const lines = child.stderr.pipeThrough(new TextDecoderStream());
  const { address, rest } = await addressIn(lines);
  const socket = await connected(address);
  const { send, onEvent } = protocol(socket);
  return {
    open: (url) => openPage(url, { send, onEvent, folder }),
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
      await send("Browser.close", {});
      await closed;
      await child.status;
      await rest;
    },
  };
}

async function addressIn(
  lines: ReadableStream<string>,
): Promise<{ readonly address: string; readonly rest: Promise<void> }> {
  const reader = lines.getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`Chromium ended: ${text}`);
    text += value;
    const address = text.match(/DevTools listening on (ws:\S+)/)?.[1];
    if (address === undefined) continue;
    const drain = async (): Promise<void> => {
      while (!(await reader.read()).done);
    };
    return { address, rest: drain() };
  }
}

function connected(address: string): Promise<WebSocket> {
  const socket = new WebSocket(address);
  return new Promise((resolve, reject) => {
    socket.addEventListener("open", () => resolve(socket));
    socket.addEventListener("error", () => reject(new Error(`no answer from ${address}`)));
  });
}

type Send = (method: string, params: object, session?: string) => Promise<Record<string, unknown>>;
type OnEvent = (hear: (event: Answer) => void) => void;

function protocol(socket: WebSocket): { readonly send: Send; readonly onEvent: OnEvent } {
  const waiting = new Map<number, (answer: Answer) => void>(), hearers: ((event: Answer) => void)[] = [];
  let last = 0;
  socket.addEventListener("message", ({ data }) => {
    const answer: Answer = JSON.parse(data);
    if (answer.id === undefined) return hearers.forEach((hear) => hear(answer));
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  return {
    send: (method, params, sessionId) =>
      new Promise((resolve, reject) => {
        waiting.set(
          ++last,
          ({ result, error }) =>
            error === undefined ? resolve(result!) : reject(new Error(`${method}: ${error.message}`)),
        );
        socket.send(
          JSON.stringify({ id: last, method, params, ...sessionId !== undefined && { sessionId } }),
        );
      }),
    onEvent: (hear) => void hearers.push(hear),
  };
}

async function openPage(
  url: string,
  { send, onEvent, folder }: { readonly send: Send; readonly onEvent: OnEvent; readonly folder: string },
): Promise<Page> {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const complaints: string[] = [], session = sessionId as string;
  onEvent(({ method, params }) => {
    if (method === "Target.attachedToTarget") {
      // A worker waits until it is listened to.
      const worker = params!.sessionId as string;
      for (const name of ["Runtime.enable", "Log.enable", "Runtime.runIfWaitingForDebugger"]) {
        send(name, {}, worker).catch(() => {});
      }
    }
    const text = complaintOf(method!, params!);
    if (text !== null) complaints.push(text);
  });
  const own = (method: string, params: object = {}) => send(method, params, session);
  await own("Page.enable");
  await own("Runtime.enable");
  await own("Log.enable");
  await own("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: true, flatten: true });
  await send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder });
  await own("Page.navigate", { url });
  const run = async <T>(expression: string): Promise<T> => {
    const { result, exceptionDetails } = await own("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    }) as { readonly result: { readonly value: T }; readonly exceptionDetails?: { readonly text: string } };
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  };
  return {
    send: own,
    run,
    async until(expression, what) {
      const end = performance.now() + PATIENCE;
      while (!await run<boolean>(`Boolean(${expression})`)) {
        if (performance.now() > end) throw new Error(`never came: ${what}; ${complaints.join("\n")}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async press(key) {
      const event = { key: key === "Space" ? " " : key, ...KEYS[key] };
      await own("Input.dispatchKeyEvent", { type: "keyDown", ...event });
      await own("Input.dispatchKeyEvent", { type: "keyUp", ...event });
    },
    async choose(id, path) {
      const { result } = await own("Runtime.evaluate", {
        expression: `document.getElementById(${JSON.stringify(id)})`,
      });
      const { objectId } = result as { readonly objectId: string };
      await own("DOM.setFileInputFiles", { files: [path], objectId });
    },
    async download(id, name) {
      await run(`document.getElementById(${JSON.stringify(id)}).click()`);
      return await fileIn(folder, name);
    },
    complaints,
  };
}

/** Waits for a downloaded file, which gets its name when it is whole, and takes it away. */
async function fileIn(folder: string, name: string): Promise<Uint8Array<ArrayBuffer>> {
  for (const end = performance.now() + PATIENCE;;) {
    const found = Array.from(Deno.readDirSync(folder), (entry) => entry.name);
    if (found.includes(name)) {
      const bytes = await Deno.readFile(`${folder}/${name}`);
      await Deno.remove(`${folder}/${name}`);
      return bytes;
    }
    if (performance.now() > end) throw new Error(`no download of "${name}"`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function complaintOf(method: string, params: Record<string, unknown>): string | null {
  if (method === "Runtime.exceptionThrown") return JSON.stringify(params.exceptionDetails);
  if (method === "Log.entryAdded") {
    const { level, text } = params.entry as { readonly level: string; readonly text: string };
    return level === "error" || level === "warning" ? text : null;
  }
  if (method !== "Runtime.consoleAPICalled" || !["error", "warning"].includes(params.type as string)) {
    return null;
  }
  return (params.args as { readonly value?: unknown; readonly description?: string }[])
    .map(({ value, description }) => value ?? description).join(" ");
}

/** Whether there is a Chromium. */
export function hasChromium(): boolean {
  try {
    return Deno.statSync(CHROMIUM).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
