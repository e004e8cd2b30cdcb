"""Where alerts are told: a plug each, exporting ``SECTION``, its options' record, and ``connect(section, tools)``."""
