"""Integrations of crashfree with frameworks, servers and task queues; one file each.

They attach themselves when their framework is imported, before or after `crashfree.init`, and never
import it. `init(integrations=["flask"])` insists on one, `init(disabled_integrations=["flask"])`
leaves one out, `crashfree.close()` takes them all out again. For any other framework there are
`crashfree_integrations.wsgi.WsgiMiddleware` and `crashfree_integrations.asgi.AsgiMiddleware`.

What a request counts as, whatever framework serves it:

    what happens                                          session   event
    ----------------------------------------------------  --------  ---------
    answered                                              exited    none
    an error was handled and captured                     errored   handled
    an exception escapes                                  crashed   unhandled
    captured, then raised again                           crashed   handled
    answered with 500, by a return                        exited    none
    answered with 500, by an exception of the framework   crashed   unhandled
    made a 503 by an error handler                        crashed   unhandled
    made a 400 by an error handler                        exited    none
    answered with 404, by an exception                    exited    none
    no such route                                         exited    none
    streamed                                              exited    none
    fails while streaming                                 crashed   unhandled
    the client goes away                                  exited    none
    the client goes away, its task with it                exited    none
    work after the answer fails                           exited    unhandled
    a websocket is closed                                 exited    none
    a websocket's client goes away                        exited    none
    a websocket fails                                     crashed   unhandled

A 500 that was returned is a crash with `init(crashed_statuses={500})`. A websocket connection is
one session. An error counts once, however many frameworks and middlewares it passes. An event names
the route (`/users/<int:user>`) and the request; the client's address, cookies, the body and the
user whom the framework has authenticated come along with `send_default_pii=True` only. A user given
by `crashfree.set_user`, late in the request too, is told and counted in any case.

Frameworks, oldest versions, and what they have of their own:

    Flask                  2.3      user of Flask-Login
    Django                 4.2      WSGI, ASGI; management commands are sessions of their own
    Django REST framework  3.15     `APIException`
    Starlette              0.37     websockets, background tasks, user of `AuthenticationMiddleware`
    FastAPI                0.110.1  the same
    aiohttp                3.9      the server; websockets, bodies made after the handler returned

Servers count applications that use none of these: gunicorn 21.2, uvicorn 0.30, hypercorn 0.16,
granian 2.8, waitress 3.0. Tasks and jobs: Celery 5.3, RQ 1.15.
"""
