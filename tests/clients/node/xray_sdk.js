// The AWS X-Ray SDK for Node.js.
'use strict';

const readline = require('node:readline');
const AWSXRay = require('aws-xray-sdk');

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');

function sendOrderTrace() {
  const segment = new AWSXRay.Segment('shop');
  segment.addAnnotation('order', 7);
  segment.addAnnotation('note', 'Grüße 🚚');
  segment.addMetadata('cart', { items: ['book', 'pen'] }, 'live');
  segment.addIncomingRequestData({
    request: { method: 'POST', url: 'http://shop.example/orders/7', user_agent: 'live-test' },
    response: { status: 500 },
  });
  segment.addFaultFlag();

  const lookup = segment.addNewSubsegment('lookup');
  const cache = lookup.addNewSubsegment('lookup.cache');
  cache.close();
  lookup.close();

  const payment = segment.addNewSubsegment('payment');
  payment.namespace = 'remote';
  payment.addAttribute('http', {
    request: { method: 'POST', url: 'https://pay.example/charge' },
    response: { status: 500 },
  });
  payment.close(new Error('card declined'));
  segment.close();

  const entities = [segment, lookup, cache, payment];
  say({
    trace_id: segment.trace_id,
    root: segment.id,
    parent_id: null,
    ids: Object.fromEntries(entities.map((entity) => [entity.name, entity.id])),
  });
}

function decide(service, path, count) {
  const answer = { requested: count, sampled: 0, rules: {} };
  for (let made = 0; made < count; made += 1) {
    const request = { host: 'shop.example', httpMethod: 'GET', urlPath: path, serviceName: service };
    const decision = AWSXRay.middleware.sampler.shouldSample(request);
    const segment = new AWSXRay.Segment(service);
    if (typeof decision === 'string') {
      segment.setMatchedSamplingRule(decision);
      answer.rules[decision] = (answer.rules[decision] ?? 0) + 1;
    }
    segment.notTraced = !decision;
    answer.sampled += decision ? 1 : 0;
    segment.close();
  }
  return answer;
}

function answerSampling(service) {
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const [path, count] = line.split(' ');
    say(decide(service, path, Number(count)));
  });
}

function serve(service, nextUrl) {
  const http = require('node:http');
  AWSXRay.captureHTTPsGlobal(http);
  const app = require('express')();
  app.use(AWSXRay.express.openSegment(service));

  app.get('/*path', (request, response) => {
    const segment = AWSXRay.getSegment();
    const ids = { service, trace_id: segment.trace_id, segment_id: segment.id };
    if (!nextUrl) {
      response.json({ ...ids, next: null });
      return;
    }
    http.get(nextUrl + request.path, (incoming) => {
      let body = '';
      incoming.on('data', (chunk) => (body += chunk));
      incoming.on('end', () => {
        response.status(incoming.statusCode).json({ ...ids, next: JSON.parse(body) });
      });
    });
  });
  app.use(AWSXRay.express.closeSegment());

  const server = app.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
  process.stdin.resume().on('end', () => {
    server.close();
    server.closeAllConnections();
  });
}

const [scenario, ...rest] = process.argv.slice(2);
({ udp: sendOrderTrace, sampling: answerSampling, serve })[scenario](...rest);
