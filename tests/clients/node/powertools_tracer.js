// Powertools for AWS Lambda (TypeScript), in a process that looks like a Lambda function's.
'use strict';

const { randomBytes } = require('node:crypto');

if (process.argv[2] !== 'udp') throw new Error(`no scenario ${process.argv[2]}`);

const epoch = Math.floor(Date.now() / 1000).toString(16).padStart(8, '0');
const traceId = `1-${epoch}-${randomBytes(12).toString('hex')}`;
const parentId = randomBytes(8).toString('hex');

// The runtime sets these before a handler is loaded, and the tracer reads them on load.
Object.assign(process.env, {
  LAMBDA_TASK_ROOT: process.cwd(),
  AWS_LAMBDA_FUNCTION_NAME: 'shop-function',
  AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs20.x',
  POWERTOOLS_SERVICE_NAME: 'shop',
  _X_AMZN_TRACE_ID: `Root=${traceId};Parent=${parentId};Sampled=1`,
});

const { Tracer } = require('@aws-lambda-powertools/tracer');

const tracer = new Tracer();
const ids = {};

function within(name, work) {
  const parent = tracer.getSegment();
  const subsegment = parent.addNewSubsegment(name);
  ids[name] = subsegment.id;
  tracer.setSegment(subsegment);
  try {
    work(subsegment);
  } finally {
    subsegment.close();
    tracer.setSegment(parent);
  }
}

within('## shop', () => {
  tracer.annotateColdStart();
  tracer.addServiceNameAnnotation();
  tracer.putAnnotation('order', 7);
  tracer.putAnnotation('note', 'Grüße 🚚');
  tracer.putMetadata('cart', { items: ['book', 'pen'] }, 'live');
  within('lookup', () => within('lookup.cache', () => {}));
  within('payment', (payment) => {
    payment.namespace = 'remote';
    payment.addAttribute('http', {
      request: { method: 'POST', url: 'https://pay.example/charge' },
      response: { status: 500 },
    });
    tracer.addErrorAsMetadata(new Error('card declined'));
  });
});

const report = { trace_id: traceId, root: null, parent_id: parentId, ids };
process.stdout.write(JSON.stringify(report) + '\n');
