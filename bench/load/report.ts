/** The figures for people. */
import { type Plan, isLoop } from "./plan.ts";
import { type Figures, percent, type PercentilesUs } from "./result.ts";

/** What is going to be done, before it is. */
export function announce(plan: Plan): string {
  const kinds = [
    plan.idles > 0 ? `${plan.idles} clients` : "",
    plan.pubs > 0 ? `${plan.pubs} publishers` : "",
    plan.subs > 0 ? `${plan.subs} subscribers` : "",
  ].filter((kind) => kind !== "");
  const scheme = `${plan.isWebSocket ? "ws" : "mqtt"}${plan.isTls ? "s" : ""}`;
  const how = plan.ratePerSec > 0 ? `${plan.ratePerSec} messages/s` : isLoop(plan.command) ? "closed loop" : "";
  const parts = [
    `${plan.command}: ${kinds.join(", ")} to ${scheme}://${plan.host}:${plan.port}`,
    `MQTT ${["3.1", "3.1.1", "5.0"][plan.version - 3]}`,
    plan.pubs > 0 ? `${plan.payloadBytes} bytes, QoS ${[...new Set(plan.qosCycle)].sort().join("+")}` : "",
    plan.pubs > 0 ? how : "",
    plan.limit > 0 ? `${plan.limit} messages` : "",
    plan.durationSec > 0 ? `${plan.durationSec} s` : "until Ctrl-C",
    plan.processes > 1 ? `${plan.processes} processes` : "",
  ];
  return parts.filter((part) => part !== "").join(", ");
}

export function reportOf(plan: Plan, figures: Figures): string {
  const lines = [
    `clients   ${figures.connected} up, ${figures.failed} failed, ${figures.dropped} dropped; ` +
      `${figures.connectsPerSec}/s, CONNACK ${percentilesText(figures.connackUs)}`,
  ];
  if (plan.pubs > 0) lines.push(`sent      ${figures.sent} (${figures.sentPerSec}/s over ${figures.measuredSec} s)`);
  if (plan.subs > 0) {
    lines.push(
      `received  ${figures.received} (${figures.receivedPerSec}/s, ${mega(figures.receivedBytesPerSec)} MB/s)`,
    );
    lines.push(
      `checked   ${figures.lost} lost, ${figures.duplicates} duplicates, ${figures.reordered} reordered, ${figures.foreign} foreign` +
        (figures.unstamped > 0 ? `; ${figures.unstamped} not ours, not checked` : ""),
    );
  }
  if (figures.latencyUs.count > 0) lines.push(`latency   ${percentilesText(figures.latencyUs)}`);
  if (figures.ackUs.count > 0) lines.push(`acks      ${percentilesText(figures.ackUs)}`);
  if (figures.latenessUs.count > 0)
    lines.push(`lateness  ${percentilesText(figures.latenessUs)} (sent after the due time)`);
  const server = plan.command === "conn" ? figures.connecting : figures.server;
  if (server !== undefined)
    lines.push(
      `server    ${percent(server.busy)} of a core, ${server.usPerUnit} µs per ${plan.command === "conn" ? "client" : "message"}, ` +
        `RSS ${mega(server.rssBytes)} MB (${server.rssGrowthBytes < 0 ? "" : "+"}${mega(server.rssGrowthBytes)})`,
    );
  const perMessage = plan.command === "conn" ? "" : `, ${figures.generatorUsPerMessage} µs per message`;
  lines.push(`generator ${percent(figures.generatorBusy)} of a core${perMessage}`);
  return `${lines.join("\n")}\n`;
}

function percentilesText({ p50, p90, p99, p999, max }: PercentilesUs): string {
  return `p50 ${p50} µs, p90 ${p90}, p99 ${p99}, p99.9 ${p999}, max ${max}`;
}

function mega(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
