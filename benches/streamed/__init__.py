"""A fleet's messages as AMQP bytes made beforehand: a load that costs next to nothing while it is measured."""
