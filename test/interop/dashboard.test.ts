/**
 * The dashboard in a real browser, against a live broker with real clients: every page, what can be done there, both languages and
 * themes, a phone's width, accessibility; and all the while no error of the console and nothing that its own policy forbids.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { source as AXE } from "axe-core";
import mqtt, { type MqttClient } from "mqtt";
import { type Browser, chromium, type Locator, type Page } from "playwright-core";
import type * as Answers from "#admin/dashboard/answers.ts";
import type { ResultOf } from "#broker/control.ts";
import { type BrokerProcess, startBroker } from "#test/support/broker-process.ts";
import { missing } from "./fixture.ts";

setDefaultTimeout(60_000);

/** What the dashboard takes an operation's answer for is what it is: the compiler's word. */
type Fits<Real extends Believed, Believed> = [Real, Believed];
export type Checked = [
  Fits<ResultOf<"overview.read">, Answers.Overview>,
  Fits<ResultOf<"clients.show">, Answers.Client>,
  Fits<ResultOf<"clients.list">, Answers.Page<Answers.Client>>,
  Fits<ResultOf<"sessions.show">, Answers.SessionRow>,
  Fits<ResultOf<"sessions.list">, Answers.Page<Answers.SessionRow>>,
  Fits<ResultOf<"subscriptions.list">, Answers.Page<Answers.Subscription>>,
  Fits<ResultOf<"topics.list">, Answers.Page<Answers.Topic>>,
  Fits<ResultOf<"retained.list">, Answers.Page<Answers.Retained>>,
  Fits<ResultOf<"retained.read">, Answers.RetainedMessage>,
  Fits<ResultOf<"listeners.list">, readonly Answers.Listener[]>,
  Fits<ResultOf<"plugins.list">, readonly Answers.Plugin[]>,
  Fits<ResultOf<"access.show">, Answers.Access>,
  Fits<ResultOf<"bans.list">, Answers.Page<Answers.Ban>>,
  Fits<ResultOf<"users.list">, Answers.Page<Answers.User>>,
  Fits<ResultOf<"clientIds.list">, Answers.Page<Answers.ClientIdRow>>,
  Fits<ResultOf<"rules.read">, Answers.Rules>,
  Fits<ResultOf<"alarms.list">, Answers.Alarms>,
  Fits<ResultOf<"traces.list">, readonly Answers.TraceInfo[]>,
  Fits<ResultOf<"traces.read">, { readonly events: readonly Answers.TraceEvent[] }>,
  Fits<ResultOf<"config.show">, readonly Answers.ConfigValue[]>,
  Fits<ResultOf<"slow.list">, readonly Answers.SlowSubscriber[]>,
  Fits<ResultOf<"recon.memory">, Answers.Memory>,
  Fits<ResultOf<"store.show">, Answers.Store>,
];

const PASSWORD = "a better password";
const CROWD_COUNT = 150;
const absent = missing(["chromium"]);
const browserTest = test.skipIf(absent !== undefined);

let broker: BrokerProcess;
let browser: Browser;
let page: Page;
let admin: string;
const clients: MqttClient[] = [];
/** What the browser complained about. */
const complaints: string[] = [];
const asked: string[] = [];

async function connect(clientId: string, options: mqtt.IClientOptions = {}): Promise<MqttClient> {
  const wish = { clientId, protocolVersion: 5, reconnectPeriod: 0, ...options } as const;
  const client = await mqtt.connectAsync(broker.addresses.get("tcp")!.replace("tcp:", "mqtt:"), wish);
  client.on("error", () => {});
  clients.push(client);
  return client;
}

beforeAll(async () => {
  if (absent !== undefined) return;
  const urls = ["tcp://127.0.0.1:0", "http://127.0.0.1:0", "admin://127.0.0.1:0"];
  broker = await startBroker(urls.flatMap((url) => ["--listen", url]));
  admin = broker.addresses.get("admin")!;
  const sensor = await connect("sensor/1", { username: "plant" });
  await sensor.subscribeAsync("plant/hall/+/set", { qos: 1 });
  await sensor.publishAsync("plant/hall/1/state", '{"temperature":21.5}', { retain: true, qos: 1 });
  await sensor.publishAsync("plant/hall/2/state", "to be deleted", { retain: true, qos: 1 });
  const archive = await connect("archive", { clean: false, properties: { sessionExpiryInterval: 3600 } });
  await archive.subscribeAsync("plant/#", { qos: 1 });
  await archive.endAsync();
  for (let i = 0; i < 5; i++) await sensor.publishAsync("plant/hall/1/set", `${i}`, { qos: 1 });
  await Promise.all(Array.from({ length: CROWD_COUNT }, (_, i) => connect(`crowd-${i}`)));
  browser = await chromium.launch({ executablePath: Bun.which("chromium")!, args: ["--no-sandbox"] });
  page = await browser.newPage({ locale: "en-GB", colorScheme: "light", viewport: { width: 1280, height: 800 } });
  page.on("console", (message) => {
    if (message.text().startsWith("Failed to load resource: the server responded")) return;
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.setDefaultTimeout(15_000);
  page.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} ${new URL(response.url()).pathname}`);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await page.addInitScript(`document.addEventListener("securitypolicyviolation", (event) =>
    console.error("policy: " + event.violatedDirective + " " + event.blockedURI + " " + event.sample));`);
});

afterAll(async () => {
  await browser?.close();
  for (const client of clients) client.end(true);
  await broker?.kill();
});

const heading = (name: string): Locator => page.getByRole("heading", { level: 1, name, exact: true });
const button = (name: string): Locator => page.getByRole("button", { name, exact: true });
const dialog = (): Locator => page.getByRole("dialog");
const row = (text: string): Locator => page.getByRole("row").filter({ hasText: text });
const said = (text: string): Locator => page.locator(".notice", { hasText: text });

async function open(path: string, title: string): Promise<void> {
  await page.evaluate(`location.hash = ${JSON.stringify(`#/${path}`)}`);
  await heading(title).waitFor();
}

/** Enters values by label and presses the button that sends them. */
async function submit(values: Readonly<Record<string, string>>, action: string): Promise<void> {
  for (const [label, value] of Object.entries(values)) await dialog().getByLabel(label, { exact: true }).fill(value);
  await dialog().getByRole("button", { name: action, exact: true }).click();
}

/** What axe finds serious or worse on what is shown. */
async function scan(): Promise<string[]> {
  if ((await page.evaluate("typeof axe")) === "undefined") await page.evaluate(`${AXE}; 0`);
  const found = (await page.evaluate(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
    violations.filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => id + ": " + nodes.map(({ target }) => target.join(" ")).join(", ")))`)) as string[];
  return found.map((each) => `${page.url()} ${each}`);
}

/** Each page by its path, its English title, its Chinese one, and something that it must show. */
const pages = [
  ["overview", "Overview", "概览", "Messages per second"],
  ["alarms", "Alarms", "告警", "Past"],
  ["diagnosis", "Diagnosis", "诊断", "sqlite"],
  ["clients", "Clients", "客户端", "crowd-1"],
  ["clients/sensor%2F1", "sensor/1", "sensor/1", "plant/hall/+/set"],
  ["sessions", "Sessions", "会话", "archive"],
  ["subscriptions", "Subscriptions", "订阅", "plant/hall/+/set"],
  ["topics", "Topics", "主题", "plant/#"],
  ["retained", "Retained", "保留消息", "plant/hall/1/state"],
  ["try", "Publish & subscribe", "发布与订阅", "ws://127.0.0.1:"],
  ["trace", "Trace", "跟踪", "No traces are running"],
  ["listeners", "Listeners", "监听器", "tcp://127.0.0.1:"],
  ["access", "Access", "访问控制", "anonymous"],
  ["access/users", "Access", "访问控制", "No users"],
  ["access/client-ids", "Access", "访问控制", "No client IDs"],
  ["access/rules", "Access", "访问控制", "access.authorize"],
  ["access/bans", "Access", "访问控制", "No bans"],
  ["plugins", "Modules & plugins", "模块与插件", "presence"],
  ["configuration", "Configuration", "配置", "mqtt.packetBytesMax"],
  ["accounts", "Accounts", "账户", "admin"],
  ["audit", "Audit log", "审计日志", "POST /sign-in"],
  ["api", "HTTP API", "HTTP API", "/clients/{clientId}"],
] as const;

async function showsText(text: string): Promise<void> {
  const shown = page
    .locator("main")
    .getByText(text)
    .or(page.locator(`main input[value*=${JSON.stringify(text)}]`));
  await shown.first().waitFor();
}

browserTest(
  "signing in: a wrong password is refused in words, the first one is taken and has to be changed",
  async () => {
    await page.goto(admin);
    await page.getByText("admin with the password public").waitFor();
    expect(await scan()).toEqual([]);
    await page.getByLabel("User name").fill("admin");
    await page.getByLabel("Password").fill("wrong");
    await button("Sign in").click();
    await page.getByRole("alert").filter({ hasText: "User name or password is wrong." }).waitFor();
    expect(complaints.splice(0)).toEqual(["401 /api/v1/sign-in"]);
    await page.getByLabel("Password").fill("public");
    await button("Sign in").click();
    await dialog().getByText("The first password is still in use.").waitFor();
    expect(await scan()).toEqual([]);
    const passwords = { "New password": PASSWORD, "New password again": PASSWORD };
    await submit(
      { "Present password": "public", ...passwords, "New password again": "another one" },
      "Change password",
    );
    await dialog().getByText("The two new passwords differ.").waitFor();
    await submit(passwords, "Change password");
    await said("The password is changed.").waitFor();
    await dialog().waitFor({ state: "detached" });
    expect(await page.getByText("The first password is still in use.").count()).toBe(0);
  },
);

browserTest("each page shows what is there, without a serious finding of axe", async () => {
  for (const [path, title, , text] of pages) {
    await open(path, title);
    await showsText(text);
    expect(await scan()).toEqual([]);
  }
});

browserTest(
  "the overview is fed by one stream that rests while the page is hidden, and asks nothing besides",
  async () => {
    await open("overview", "Overview");
    await page.locator("canvas").first().waitFor();
    expect(await page.locator("dt", { hasText: "Connections" }).locator("xpath=..").innerText()).toContain(
      String(CROWD_COUNT + 1),
    );
    expect(asked.filter((path) => path === "/api/v1/overview")).toEqual([]);
    const setHidden = (isHidden: boolean): Promise<unknown> =>
      page.evaluate(`Object.defineProperty(document, "hidden", { configurable: true, value: ${isHidden} });
      document.dispatchEvent(new Event("visibilitychange"));`);
    const isFeed = (request: { url(): string }): boolean => new URL(request.url()).pathname.endsWith("/feed");
    const ended = page.waitForEvent("requestfailed", { predicate: isFeed });
    await setHidden(true);
    await ended;
    const begun = page.waitForRequest(isFeed);
    await setHidden(false);
    await begun;
    // A machine that is too busy to tell for long has the page open another one.
    expect(asked.filter((path) => path === "/api/v1/feed").length).toBeLessThan(5);
  },
);

browserTest("lists are fetched page by page as one scrolls, with the rows in sight alone in the document", async () => {
  await open("clients", "Clients");
  await page.getByText("Showing 100, there are more").waitFor();
  const box = page.locator(".table-box");
  await box.evaluate((element) => ((element as unknown as { scrollTop: number }).scrollTop = 1e6));
  await page.getByText(`Showing all ${CROWD_COUNT + 1}`).waitFor();
  expect(await page.locator("tbody tr").count()).toBeLessThan(100);
  await page.getByLabel("Client ID contains").fill("crowd-149");
  await page.getByText("Showing all 1", { exact: true }).waitFor();
  await page.getByLabel("Client ID contains").fill("nobody");
  await page.getByText("No clients").waitFor();
});

browserTest("a client is subscribed to something, loses it, is disconnected; sessions show their queue", async () => {
  const sensor = clients[0]!;
  const got: string[] = [];
  sensor.on("message", (topic) => got.push(topic));
  await open("clients/sensor%2F1", "sensor/1");
  await button("Subscribe for it").click();
  await submit({ "Topic filter": "plant/#/x" }, "Subscribe");
  await dialog().getByRole("alert").filter({ hasText: "reason code" }).waitFor();
  await submit({ "Topic filter": "alerts/#" }, "Subscribe");
  await row("alerts/#").waitFor();
  await sensor.publishAsync("alerts/fire", "now", { qos: 1 });
  await page.getByRole("button", { name: "Unsubscribe alerts/#" }).click();
  await row("alerts/#").waitFor({ state: "detached" });
  expect(got).toContain("alerts/fire");
  await open("clients", "Clients");
  await page.getByLabel("Not sorted").selectOption({ label: "First: Subscriptions" });
  await page.getByRole("row").nth(1).filter({ hasText: "sensor/1" }).waitFor();
  await open("sessions", "Sessions");
  expect(await row("archive").innerText()).toMatch(/Away[\s\S]*\b5\b/);
  await open("clients/crowd-0", "crowd-0");
  const gone = new Promise((resolve) =>
    clients.find(({ options }) => options.clientId === "crowd-0")!.once("close", () => resolve(true)),
  );
  await button("Disconnect").click();
  await dialog().getByRole("button", { name: "Disconnect" }).click();
  await said("crowd-0 is disconnected.").waitFor();
  await gone;
});

browserTest("a retained message is read and deleted", async () => {
  await open("retained", "Retained");
  await page.getByLabel("Topic filter").fill("plant/+/2/#");
  await row("plant/hall/1/state").waitFor({ state: "detached" });
  await button("plant/hall/2/state").click();
  await dialog().getByText("to be deleted").waitFor();
  await dialog().getByRole("button", { name: "Close" }).click();
  await button("Delete plant/hall/2/state").click();
  await dialog().getByRole("button", { name: "Delete" }).click();
  await page.getByText("No retained messages").waitFor();
});

/** Workers hear of bans a moment later. */
async function comesTo(outcome: "Banned" | "let in"): Promise<void> {
  const found = async (): Promise<string> => {
    try {
      (await connect("crowd-1")).end(true);
      return "let in";
    } catch (error) {
      return (error as Error).message;
    }
  };
  for (let tries = 0; tries < 100 && !(await found()).includes(outcome); tries++) await Bun.sleep(100);
  expect(await found()).toContain(outcome);
}

browserTest("somebody is banned and let in again; a user is added and deleted", async () => {
  await open("access/bans", "Access");
  await button("Add ban").click();
  await submit({ Value: "crowd-1", "Reason (optional)": "too loud" }, "Ban");
  await row("too loud").waitFor();
  await comesTo("Banned");
  await button("Lift the ban of crowd-1").click();
  await dialog().getByRole("button", { name: "Lift" }).click();
  await page.getByText("No bans").waitFor();
  await comesTo("let in");
  await open("access/users", "Access");
  await button("Add user").click();
  await submit({ "User name": "ann", Password: "a secret" }, "Add user");
  await row("ann").waitFor();
  await button("Delete ann").click();
  await dialog().getByRole("button", { name: "Delete" }).click();
  await page.getByText("No users").waitFor();
});

browserTest("access rules are added, moved, changed and deleted, and it is told that nobody asks them", async () => {
  await open("access/rules", "Access");
  await page.getByText("These rules are not asked").waitFor();
  await page.getByText("No rules").waitFor();
  await button("Add rule").click();
  expect(await scan()).toEqual([]);
  await page.keyboard.press("Escape");
  const add = async (effect: string, values: Readonly<Record<string, string>>): Promise<void> => {
    await button("Add rule").click();
    await dialog().getByLabel("Rule", { exact: true }).selectOption(effect);
    for (const [label, value] of Object.entries(values)) await dialog().getByLabel(label).fill(value);
    await button("Save").click();
  };
  await add("deny", { "Topic filters": "eq #\n$SYS/#" });
  await row("everybody").waitFor();
  await add("allow", { "User name": "ann\nbob", Address: "10.0.0.0/8", "Topic filters": "plant/%c/#" });
  await row("User name: ann, bob").waitFor();
  await button("Add rule").click();
  await dialog().getByLabel("Topic filters").fill("#/wrong");
  await button("Save").click();
  await dialog().getByText('rule 3: topics: found "#/wrong"').waitFor();
  expect(complaints.splice(0)).toEqual(["400 /api/v1/rules"]);
  await page.keyboard.press("Escape");
  await button("Move rule 2 up").click();
  await page.getByRole("row").nth(1).filter({ hasText: "plant/%c/#" }).waitFor();
  await button("Edit rule 1").click();
  expect(await dialog().getByLabel("User name").inputValue()).toBe("ann\nbob");
  await dialog().getByLabel("Address").fill("");
  await button("Save").click();
  await row("10.0.0.0/8").waitFor({ state: "detached" });
  for (const left of [1, 0]) {
    await button("Delete rule 1").click();
    await dialog().getByRole("button", { name: "Delete" }).click();
    await dialog().waitFor({ state: "detached" });
    await button(`Delete rule ${left + 1}`).waitFor({ state: "detached" });
  }
  await page.getByText("No rules").waitFor();
});

browserTest("a trace is started and shows packets", async () => {
  await open("trace/topic/traced%2F%23", "Trace");
  await dialog().getByLabel("Payload").selectOption("text");
  await dialog().getByRole("button", { name: "Start" }).click();
  await heading("topic traced/#").waitFor();
  await clients[0]!.publishAsync("traced/now", "what is inside", { qos: 1 });
  await page.getByText("what is inside").first().waitFor();
  expect(await scan()).toEqual([]);
  await button("End trace").click();
  await page.getByText("No traces are running").waitFor();
});

browserTest("the page itself publishes and subscribes over WebSocket, at each QoS", async () => {
  await open("try", "Publish & subscribe");
  await page.getByLabel("Client ID (optional)").fill("page");
  await button("Connect").click();
  await page.getByText("Connected as page").waitFor();
  await page.getByLabel("Topic filter").fill("page/#");
  await page.locator("form", { hasText: "Topic filter" }).getByLabel("QoS").selectOption("2");
  await button("Subscribe").click();
  await page.locator(".chips", { hasText: "page/# QoS 2" }).waitFor();
  const form = page.locator("form", { hasText: "Payload" });
  for (const qos of ["0", "1", "2"]) {
    await form.getByLabel("Topic").fill("page/echo");
    await form.getByLabel("Payload").fill(`at ${qos}, 你好`);
    await form.getByLabel("QoS").selectOption(qos);
    await button("Publish").click();
    await page
      .locator(".log li.in", { hasText: `at ${qos}, 你好` })
      .filter({ hasText: `QoS ${qos}` })
      .waitFor();
  }
  expect(await scan()).toEqual([]);
  await page.getByRole("button", { name: "Unsubscribe page/#" }).click();
  await page.locator(".chips li").waitFor({ state: "detached" });
  await button("Disconnect").click();
  await button("Connect").waitFor();
});

browserTest(
  "a listener is stopped and started; a value is changed live; a wrong file is told what is wrong",
  async () => {
    await open("listeners", "Listeners");
    await button("Stop http-2").click();
    await dialog().getByRole("button", { name: "Stop" }).click();
    await row("http-2").getByText("Stopped").waitFor();
    await button("Start http-2").click();
    await row("http-2").getByText("Open").waitFor();
    await open("configuration", "Configuration");
    await page.getByLabel("Search keys").fill("session.inflightCountMax");
    await button("Change session.inflightCountMax").click();
    await submit({ Value: "many" }, "Save");
    await dialog().getByRole("alert").filter({ hasText: "session.inflightCountMax" }).waitFor();
    expect(complaints.splice(0)).toEqual(["400 /api/v1/config"]);
    await submit({ Value: "77" }, "Save");
    await row("changed while running").getByText("77").waitFor();
    await button("Read the file again").click();
    await dialog().getByRole("button", { name: "Read the file again" }).click();
    await said("In force now: session.inflightCountMax").or(said("The configuration is as it was.")).first().waitFor();
    await row("changed while running").waitFor({ state: "detached" });
    await button("Check a file").click();
    await submit({ "mantou.yaml": "workers: no idea" }, "Check");
    await dialog().getByRole("alert").filter({ hasText: "workers" }).waitFor();
    await page.keyboard.press("Escape");
  },
);

browserTest("an account with a smaller role sees less and may less; an API key is shown once", async () => {
  await open("api", "HTTP API");
  await button("Add key").click();
  await submit({ Name: "grafana" }, "Add key");
  await dialog().getByText(/^mk_/).waitFor();
  await dialog().getByRole("button", { name: "Close" }).click();
  await row("grafana").waitFor();
  await open("accounts", "Accounts");
  await button("Add account").click();
  await submit({ "User name": "vera", Password: "vera's password" }, "Add account");
  await row("vera").getByText("Viewer").waitFor();
  await page.locator(".account summary").click();
  await button("Sign out").click();
  await page.getByLabel("User name").fill("vera");
  await page.getByLabel("Password").fill("vera's password");
  await button("Sign in").click();
  await open("clients", "Clients");
  await row("crowd-2").first().waitFor();
  expect(await page.getByRole("button", { name: /^Disconnect/ }).count()).toBe(0);
  expect(await page.getByRole("link", { name: "Configuration" }).count()).toBe(0);
  await open("configuration", "Configuration");
  await page.getByText("This page needs the role Administrator.").waitFor();
});

browserTest("in Chinese and in the dark, every page has its words and enough contrast", async () => {
  await page.locator(".account summary").click();
  await button("Sign out").click();
  await page.getByLabel("Language").selectOption("zh");
  await page.getByLabel("主题").selectOption("dark");
  await page.getByLabel("用户名").fill("admin");
  await page.getByLabel("密码").fill(PASSWORD);
  expect(await scan()).toEqual([]);
  await button("登录").click();
  for (const [path, , title] of pages) {
    await open(path, title);
    await page.locator("main .loading, main [aria-busy=true]").first().waitFor({ state: "detached" });
    if (/^(overview|clients.*|access|listeners|plugins)$/.test(path)) expect(await scan()).toEqual([]);
  }
  expect(await page.evaluate("document.documentElement.lang")).toBe("zh-CN");
  expect(await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")).toBe("rgb(20, 21, 19)");
});

browserTest("on a phone nothing is wider than the screen, and the menu opens", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  for (const [path, , title] of pages) {
    await open(path, title);
    await page.locator("main .loading").first().waitFor({ state: "detached" });
    const overhang = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    expect(`${path} ${overhang}`).toBe(`${path} 0`);
    const cut = await page.evaluate(`[...document.querySelectorAll("td .button")].filter((each) =>
      each.getBoundingClientRect().right > each.closest("td").getBoundingClientRect().right + 1).length`);
    expect(`${path} ${cut}`).toBe(`${path} 0`);
  }
  await button("菜单").click();
  await page.getByRole("link", { name: "概览" }).first().click();
  await heading("概览").waitFor();
  await button("菜单").click();
  await page.getByLabel("语言").selectOption("en");
  await heading("Overview").waitFor();
  expect(await scan()).toEqual([]);
});

browserTest("all the while the console had nothing to say; and when the broker is gone, the page says so", async () => {
  expect(complaints).toEqual([]);
  expect(broker.output()).not.toContain("a bug:");
  await broker.stop();
  await page.getByText("The connection to the broker is lost.").waitFor();
});
