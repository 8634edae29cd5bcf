"""A Flask application that keeps orders in DynamoDB and SQS, which are moto's, in this process."""

import json
import os
import sys
import threading

import boto3
from aws_xray_sdk.core import patch, xray_recorder
from aws_xray_sdk.ext.flask.middleware import XRayMiddleware
from botocore.exceptions import ClientError
from flask import Flask
from moto.server import ThreadedMotoServer
from werkzeug.serving import make_server

SERVICE = "shop"
TABLE = "orders"


def make_app() -> Flask:
    dynamodb, sqs = boto3.client("dynamodb"), boto3.client("sqs")
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    queue_url = sqs.create_queue(QueueName="mail")["QueueUrl"]
    patch(["botocore"])
    xray_recorder.configure(service=SERVICE, sampling=False)
    app = Flask(SERVICE)
    XRayMiddleware(app, xray_recorder)

    @app.get("/orders/<number>")
    def order(number: str) -> dict[str, str]:
        xray_recorder.put_annotation("order", int(number))
        dynamodb.put_item(TableName=TABLE, Item={"id": {"S": number}})
        sqs.send_message(QueueUrl=queue_url, MessageBody=number)
        return {"trace_id": xray_recorder.current_segment().trace_id}

    @app.get("/absent")
    def absent() -> tuple[dict[str, str], int]:
        trace_id = xray_recorder.current_segment().trace_id
        try:
            dynamodb.get_item(TableName="absent", Key={"id": {"S": "1"}})
        except ClientError:
            return {"trace_id": trace_id}, 404
        return {"trace_id": trace_id}, 200

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("out of paper")

    return app


def main(scenario: str) -> None:
    if scenario != "serve":
        raise SystemExit(f"no scenario {scenario}")
    aws = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    aws.start()
    host, port = aws.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    server = make_server("127.0.0.1", 0, make_app())
    threading.Thread(target=server.serve_forever).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    sys.stdin.read()
    server.shutdown()
    aws.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
