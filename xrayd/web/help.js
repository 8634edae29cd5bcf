// What to do when there are no traces yet.

import { pagePost } from "./api.js";
import { copyButton, h } from "./dom.js";

const address = () => `${location.hostname}:${location.port || 80}`;

const SNIPPETS = () => [
  ["Python", "aws-xray-sdk", `# pip install aws-xray-sdk
from aws_xray_sdk.core import xray_recorder

xray_recorder.configure(service="hello", daemon_address="${address()}")
with xray_recorder.in_segment("hello") as segment:
    segment.put_annotation("first", True)`],
  ["Node", "aws-xray-sdk-core", `// npm install aws-xray-sdk-core
const AWSXRay = require("aws-xray-sdk-core");

AWSXRay.setDaemonAddress("${address()}");
const segment = new AWSXRay.Segment("hello");
segment.addAnnotation("first", true);
segment.close();`],
  ["Java", "aws-xray-recorder-sdk-core", `// Maven: com.amazonaws:aws-xray-recorder-sdk-core
// AWS_XRAY_DAEMON_ADDRESS=${address()}
import com.amazonaws.xray.AWSXRay;

class First {
    public static void main(String[] arguments) {
        AWSXRay.beginSegment("hello").putAnnotation("first", true);
        AWSXRay.endSegment();
    }
}`],
  ["Go", "aws-xray-sdk-go", `// go get github.com/aws/aws-xray-sdk-go/v2
package main

import (
\t"context"

\t"github.com/aws/aws-xray-sdk-go/v2/xray"
)

func main() {
\txray.Configure(xray.Config{DaemonAddr: "${address()}"})
\tctx, segment := xray.BeginSegment(context.Background(), "hello")
\txray.AddAnnotation(ctx, "first", true)
\tsegment.Close(nil)
}`],
  ["OpenTelemetry", "AWS distribution, Python", `# pip install aws-opentelemetry-distro
cat > first.py <<'END'
from opentelemetry import trace
with trace.get_tracer("first").start_as_current_span("hello"):
    pass
END
AWS_LAMBDA_FUNCTION_NAME=hello OTEL_SERVICE_NAME=hello \\
AWS_XRAY_DAEMON_ADDRESS=${address()} \\
OTEL_PYTHON_DISTRO=aws_distro OTEL_PYTHON_CONFIGURATOR=aws_configurator \\
opentelemetry-instrument python first.py`],
  ["Shell", "no SDK at all", `now=$(date +%s)
printf '{"format":"json","version":1}\\n{"name":"hello","id":"%016x","trace_id":"1-%08x-%024x","start_time":%s,"end_time":%s.25}' \\
  $RANDOM $now $RANDOM $now $now | cat > /dev/udp/${location.hostname}/${location.port || 80}`],
];

export function makeHelp() {
  const status = h("span", { role: "status", class: "note" });
  const demo = h("button", { type: "button", class: "primary", onclick: async () => {
    try {
      await pagePost("demo", { running: true });
      status.textContent = "The demo is running; its traces will be here in a moment.";
    } catch (error) {
      status.textContent = error.message;
    }
  } }, "Run the demo");
  return h("section", { class: "help" },
    h("h1", {}, "No traces yet"),
    h("p", {}, "Send the first one from your application, or let a made-up shop send some. ",
      "SDKs look at 127.0.0.1:2000 by themselves, or wherever ", h("code", {}, `AWS_XRAY_DAEMON_ADDRESS=${address()}`), " says."),
    h("p", { class: "actions" }, demo, " ", status),
    h("div", { class: "snippets" }, SNIPPETS().map(([name, library, code]) => h("section", { class: "snippet" },
      h("header", {}, h("h2", {}, name), h("span", { class: "note" }, library), h("span", { class: "grow" }), copyButton(() => code, "Copy")),
      h("pre", { tabindex: "0", role: "region", "aria-label": `${name} snippet` }, code)))));
}
