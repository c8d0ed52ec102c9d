"""A mail server that says what it got, one JSON object a line, and answers as a test sets it.

usage: smtp.py FOLDER PORT plain|starttls|tls

FOLDER holds server.pem and server-key.pem, and may hold answers.json: from an address, MAIL or DATA to the answer that it
gets; "never" is none, and "hang up" takes the mail and breaks off. The login is robot@example.com with the password "open sesame"; nobody who has not logged in is listened to. It ends
when its standard input does.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys
import threading

from aiosmtpd.smtp import SMTP, AuthResult

folder, port, security = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def say(**what):
    print(json.dumps(what), flush=True)


def answer(to):
    try:
        with open(os.path.join(folder, "answers.json")) as answers:
            return json.load(answers).get(to)
    except FileNotFoundError:
        return None


def login(server, session, envelope, mechanism, data):
    admitted = data.login == b"robot@example.com" and data.password == b"open sesame"
    say(login=data.login.decode(), admitted=admitted)
    return AuthResult(success=admitted, handled=admitted)


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return answer("MAIL") or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        said = answer(address)
        say(asked=address, encrypted=session.ssl is not None or security == "tls")
        if said == "never":
            await asyncio.Event().wait()
        if said is None:
            envelope.rcpt_tos.append(address)
        return said or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        said = answer("DATA")
        if said and said != "hang up":
            return said
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        say(mail={
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": [[name.lower(), str(value)] for name, value in mail.items()],
            "parts": [[part.get_content_type(), part.get_content().replace("\r\n", "\n")] for part in (mail.iter_parts() if mail.is_multipart() else [mail])],
            "longest": max(len(line) for line in envelope.original_content.splitlines()),
            "ascii": envelope.original_content.isascii(),
        })
        if said == "hang up":
            server.transport.abort()
            await asyncio.Event().wait()
        return "250 OK"


def until_nobody_listens():
    sys.stdin.read()
    os._exit(0)


async def serve():
    context = None
    if security != "plain":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.path.join(folder, "server.pem"), os.path.join(folder, "server-key.pem"))
    starttls = security == "starttls"
    # Of TLS from the first byte, the protocol does not know.
    protocol = lambda: SMTP(
        Handler(),
        authenticator=login,
        auth_required=security != "plain",
        auth_require_tls=starttls,
        require_starttls=starttls,
        tls_context=context if starttls else None,
        hostname="relay.example",
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, ssl=context if security == "tls" else None)
    say(port=server.sockets[0].getsockname()[1])
    threading.Thread(target=until_nobody_listens, daemon=True).start()
    await server.serve_forever()


asyncio.run(serve())
