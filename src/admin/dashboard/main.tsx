/** The dashboard's entry: who has signed in, then the page. */
import { render } from "preact";
import { findSession } from "./api.ts";
import { App } from "./app.tsx";
import { startFeed } from "./feed.ts";
import { applyTheme } from "./theme.ts";

const RETRY_MS = 3000;

function begin(): void {
  findSession().catch(() => setTimeout(begin, RETRY_MS));
}

applyTheme();
render(<App />, document.querySelector("#app")!);
startFeed();
begin();
