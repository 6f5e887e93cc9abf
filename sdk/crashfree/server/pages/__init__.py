"""The release-health page: HTML for people, from the functions that answer the API.

    site         templates, the frame around every view, errors
    door         who may look: a cookie, got once by the token
    figures      numbers as people read them; “—” where there is no data
    layout       navigation and the chooser of project, environment and range
    asking       a view's questions to the API's own handlers, in this process

One module a view. A view never counts by itself: it asks what the API answers, so that the two
cannot disagree, and every view names the API address that says the same as JSON.

Threads: handlers run on any thread.
"""

from __future__ import annotations
