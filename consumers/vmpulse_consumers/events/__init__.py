"""What the view tells engine workers: its events described as fleet events, kept for a while, numbered.

How they travel is the business of the edges: ``amqp_events`` publishes them, ``http.event_stream`` streams them.
"""
