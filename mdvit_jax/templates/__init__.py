"""Templates: the mean of a group of people, or of one person's scans.

`group_template` registers all scans to each other and puts each in their mean space,
`scan_average` averages what lies there.
"""
