// OpenTelemetry JS with the X-Ray remote sampler.
'use strict';

const readline = require('node:readline');
const { ROOT_CONTEXT, SpanKind } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { AWSXRayRemoteSampler } = require('@opentelemetry/sampler-aws-xray');
const { TracerProvider } = require('@opentelemetry/sdk-trace');

const [scenario, service] = process.argv.slice(2);
if (scenario !== 'sampling') throw new Error(`no scenario ${scenario}`);

const addresses = Object.fromEntries(
  process.env.AWS_XRAY_DAEMON_ADDRESS.split(' ').map((part) => {
    const [protocol, ...address] = part.split(':');
    return [protocol, address.join(':')];
  }),
);
const resource = resourceFromAttributes({ 'service.name': service });
const sampler = new AWSXRayRemoteSampler({
  resource,
  endpoint: `http://${addresses.tcp}`,
  pollingInterval: 10,
});
const tracer = new TracerProvider({ resource, sampler }).getTracer('live');

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [path, count] = line.split(' ');
  let sampled = 0;
  for (let made = 0; made < Number(count); made += 1) {
    const attributes = {
      'url.path': path,
      'http.request.method': 'GET',
      'server.address': 'shop.example',
    };
    const span = tracer.startSpan(service, { kind: SpanKind.SERVER, attributes }, ROOT_CONTEXT);
    sampled += span.spanContext().traceFlags & 1;
    span.end();
  }
  process.stdout.write(JSON.stringify({ requested: Number(count), sampled, rules: {} }) + '\n');
});
