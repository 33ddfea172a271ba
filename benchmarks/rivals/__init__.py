"""What the accelerator's wire is measured against: servers and clients in processes of their own.

Those that need libraries which eipack does not use run in `build/rivals`, an environment that
`make bench-wire` makes; what cannot run here is a row that says why.
"""
